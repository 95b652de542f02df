"""Control: scenarios, experiments, versions, keys, jobs and status."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse

from bowerbird.core import UnknownItemError
from bowerbird.privacy.erasure import STEPS
from bowerbird.serving.access import GuardedRoute, guarded
from bowerbird.serving.bodies import ErasureAsked, ExperimentAsked, JobAsked, KeyAsked, Name
from bowerbird.serving.engine import Engine
from bowerbird.serving.experiments import WrongPart, shown
from bowerbird.serving.jobs import Job, Jobs
from bowerbird.serving.once import once
from bowerbird.serving.problems import described
from bowerbird.store import bundles, erasures

router = APIRouter(prefix="/v1", route_class=GuardedRoute, responses=described(400, 401, 403, 404, 409, 422))
Version = Annotated[str, Path(pattern="^[0-9]{6}$")]
Once = Annotated[str | None, Header(alias="Idempotency-Key", max_length=256)]


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


@router.get("/scenarios", tags=["scenarios"], dependencies=guarded("models:read"))
def scenarios(request: Request) -> dict[str, Any]:
    """Return the scenarios that a request may name."""
    return {"scenarios": sorted(_engine(request).scenarios)}


@router.get("/scenarios/{name}", tags=["scenarios"], dependencies=guarded("models:read"))
def scenario(request: Request, name: Name) -> dict[str, Any]:
    """Return what a scenario does, and what of it the item table cannot answer."""
    engine = _engine(request)
    if name not in engine.scenarios:
        raise UnknownItemError(f'no scenario is named "{name}". There are {", ".join(sorted(engine.scenarios))}.')
    return {"scenario": asdict(engine.scenarios[name]), "missing": list(engine.view.pipelines[name].rules.missing)}


@router.get("/experiments", tags=["experiments"], dependencies=guarded("experiments"))
def experiments(request: Request) -> dict[str, Any]:
    """Return the experiments, the oldest first."""
    return {"experiments": [shown(one) for one in _engine(request).laboratory.store.all()]}


@router.post("/experiments", tags=["experiments"], dependencies=guarded("experiments"), status_code=201)
def make_experiment(request: Request, asked: ExperimentAsked) -> dict[str, Any]:
    """Keep the draft of an experiment; the same once more changes nothing."""
    try:
        return shown(_engine(request).laboratory.create(asked))
    except WrongPart as error:
        wrong = {"type": "invalid_experiment", "loc": ("body", *error.loc), "msg": error.message}
        raise RequestValidationError([wrong]) from None


@router.get("/experiments/{name}", tags=["experiments"], dependencies=guarded("experiments"))
def experiment(request: Request, name: Name) -> dict[str, Any]:
    """Return one experiment."""
    return shown(_engine(request).laboratory.store.get(name))


@router.delete("/experiments/{name}", tags=["experiments"], dependencies=guarded("experiments"), status_code=204)
def drop_experiment(request: Request, name: Name) -> Response:
    """Forget an experiment that does not run."""
    _engine(request).laboratory.store.delete(name)
    return Response(status_code=204)


@router.post("/experiments/{name}:start", tags=["experiments"], dependencies=guarded("experiments"))
def start_experiment(request: Request, name: Name) -> dict[str, Any]:
    """Let an experiment begin with the next answer; one that runs goes on."""
    return shown(_engine(request).laboratory.start(name))


@router.post("/experiments/{name}:stop", tags=["experiments"], dependencies=guarded("experiments"))
def stop_experiment(request: Request, name: Name) -> dict[str, Any]:
    """End an experiment for good; one that was stopped stays as it is."""
    return shown(_engine(request).laboratory.stop(name, "it was asked to"))


@router.get("/experiments/{name}/results", tags=["experiments"], dependencies=guarded("experiments"))
def results(request: Request, name: Name) -> dict[str, Any]:
    """Return what came of an experiment so far; it may be looked at as often as one likes."""
    return _engine(request).laboratory.results(name)


@router.get("/models", tags=["models"], dependencies=guarded("models:read"))
def models(request: Request) -> dict[str, Any]:
    """Return the versions of the model, the newest last, and which one answers."""
    engine = _engine(request)
    return {"in_use": engine.view.recommender.version, "versions": _versions(engine)}


@router.post("/models/{version}:promote", tags=["models"], dependencies=guarded("models:write"))
def promote(request: Request, version: Version) -> dict[str, str | None]:
    """Let a version answer from now on."""
    engine = _engine(request)
    if version not in bundles.versions(engine.run, world=engine.world):
        raise UnknownItemError(f"there is no version {version}.")
    engine.promote(version)
    request.app.state.workers.tell("tend")
    return {"in_use": engine.view.recommender.version}


@router.post("/models:rollback", tags=["models"], dependencies=guarded("models:write"))
def rollback(request: Request) -> dict[str, str | None]:
    """Let the version before the one in use answer again."""
    engine = _engine(request)
    engine.promote(bundles.before(engine.run, str(engine.view.recommender.version), world=engine.world))
    request.app.state.workers.tell("tend")
    return {"in_use": engine.view.recommender.version}


@router.post("/jobs", tags=["jobs"], dependencies=guarded("jobs"), status_code=202, response_model=Job)
def start(request: Request, asked: JobAsked, key: Once = None) -> Response:
    """Start work that takes longer than a request may; `Location` says where to look for it."""
    jobs: Jobs = request.app.state.jobs

    def make() -> tuple[int, dict[str, Any], dict[str, str]]:
        job = jobs.start(asked.kind, what=asked.what, file=asked.file)
        return 202, job.model_dump(), {"Location": f"/v1/jobs/{job.id}"}

    return once(_engine(request), request.url.path, key, asked, make)


@router.get("/jobs", tags=["jobs"], dependencies=guarded("jobs"))
def jobs(request: Request) -> dict[str, list[Job]]:
    """Return the jobs of this server, the newest first."""
    return {"jobs": request.app.state.jobs.all()}


@router.get("/jobs/{job_id}", tags=["jobs"], dependencies=guarded("jobs"))
def job(request: Request, job_id: str) -> Job:
    """Return how far a job is."""
    found: Job = request.app.state.jobs.get(job_id)
    return found


@router.post("/jobs/{job_id}:cancel", tags=["jobs"], dependencies=guarded("jobs"))
def cancel(request: Request, job_id: str) -> Job:
    """Stop a job as soon as it can be stopped."""
    found: Job = request.app.state.jobs.cancel(job_id)
    return found


@router.get("/jobs/{job_id}/file", tags=["jobs"], dependencies=guarded("admin"), response_class=FileResponse)
def file(request: Request, job_id: str) -> FileResponse:
    """Return the file that an export wrote."""
    return FileResponse(request.app.state.jobs.file(job_id))


@router.post("/erasures", tags=["privacy"], dependencies=guarded("privacy"), status_code=202)
def erase(request: Request, asked: ErasureAsked) -> JSONResponse:
    """Erase a person: out of serving and out of the log before this is answered, and then out of all else."""
    erasure_id = request.app.state.jobs.erase(asked.user_id)
    return JSONResponse(_erasure(request, erasure_id), 202, {"Location": f"/v1/erasures/{erasure_id}"})


@router.get("/erasures", tags=["privacy"], dependencies=guarded("privacy"))
def erasures_of(request: Request) -> dict[str, Any]:
    """Return the erasures, the newest first: what is done of those that go on, and certificates."""
    engine = _engine(request)
    return {"erasures": [_told(one) for one in erasures.all_of(engine.run, world=engine.world)]}


@router.get("/erasures/{erasure_id}", tags=["privacy"], dependencies=guarded("privacy"))
def erasure(request: Request, erasure_id: str) -> dict[str, Any]:
    """Return one erasure; a certificate comes with its key as long as the server runs that made it."""
    return _erasure(request, erasure_id)


@router.get("/keys", tags=["keys"], dependencies=guarded("admin"))
def keys(request: Request) -> dict[str, Any]:
    """Return the keys, without their secrets."""
    return {"keys": [_shown(one) for one in _engine(request).keys.all()]}


@router.post("/keys", tags=["keys"], dependencies=guarded("admin"), status_code=201)
def make_key(request: Request, asked: KeyAsked) -> dict[str, Any]:
    """Make a key; its secret is shown now and never again. From the first key on, every request needs one."""
    made, secret = _engine(request).keys.create(
        asked.name, asked.scopes, expires=asked.expires, limit_per_s=asked.limit_per_s
    )
    return _shown(made) | {"secret": secret}


@router.delete("/keys/{key_id}", tags=["keys"], dependencies=guarded("admin"), status_code=204)
def revoke(request: Request, key_id: str) -> Response:
    """End a key; ending it again changes nothing."""
    _engine(request).keys.revoke(key_id)
    return Response(status_code=204)


@router.get("/status", tags=["operation"], dependencies=guarded("models:read"))
def status(request: Request) -> JSONResponse:
    """Return what the server holds and how far it is."""
    return JSONResponse(_engine(request).status() | {"workers": request.app.state.workers.ready})


def _erasure(request: Request, erasure_id: str) -> dict[str, Any]:
    engine = _engine(request)
    found = _told(erasures.get(engine.run, erasure_id, world=engine.world))
    key = request.app.state.jobs.keys.get(erasure_id)
    return found if key is None else found | {"key": key}


def _told(written: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of an erasure: of one that goes on, which steps are done."""
    if written["state"] == "done":
        return written
    names = ("state", "id", "user_id", "asked", "deadline")
    return {name: written[name] for name in names} | {"steps": {step: step in written["steps"] for step in STEPS}}


def _shown(key: Any) -> dict[str, Any]:
    names = ("id", "name", "scopes", "created", "expires", "limit_per_s", "last_used")
    return {name: getattr(key, name) for name in names}


def _versions(engine: Engine) -> list[dict[str, Any]]:
    names = ("model", "created", "parent", "log_offset")
    found = []
    for version in bundles.versions(engine.run, world=engine.world):
        manifest = bundles.manifest_of(engine.run, version, world=engine.world)
        metrics = (manifest.get("measured") or {}).get("metrics", {})
        found.append({"version": version} | {name: manifest.get(name) for name in names} | {"metrics": metrics})
    return found
