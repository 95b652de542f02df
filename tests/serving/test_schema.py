"""The schema of the API and the server, held against one another by schemathesis."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from shop import Start

from bowerbird.recommender import Recommender
from bowerbird.serving import create_app

FEW = 6  # requests that are made up for each route
CALM = settings(
    max_examples=FEW, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture
def api(start: Start, neighbours: Recommender) -> schemathesis.BaseSchema:
    """The schema, and the server behind it."""
    engine = start(neighbours)
    secret = engine.keys.create("test", ["admin"], limit_per_s=1e6)[1]
    app = create_app(engine, world=engine.world, any_host=True)
    refusals = {"negative_data_rejection": {"expected-statuses": [400, 404, 405, 409, 413, 414, 422, 431]}}
    config = SchemathesisConfig.from_dict({"headers": {"Authorization": f"Bearer {secret}"}, "checks": refusals})
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_server_does_what_its_schema_says(api: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    wrong: list[str] = []
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) > 40

    for operation in operations:

        @CALM
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # what is refused may mean nothing here

        try:
            check()
        except Unsatisfiable:  # a route that takes nothing cannot be sent anything wrong
            assert mode == GenerationMode.NEGATIVE
        except (Exception, FailureGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
