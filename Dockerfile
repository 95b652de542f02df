# A server on CPUs. The wheel is built and installed in a first stage; neither sources nor pip's leavings reach the second.
# Which build of torch pip takes, CPU or CUDA, depends on its index: --build-arg PIP_INDEX_URL=… or PIP_EXTRA_INDEX_URL=…
FROM python:3.12-slim AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/bowerbird \
    && /opt/bowerbird/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && /opt/bowerbird/bin/pip install --no-cache-dir --constraint constraints.txt /wheels/*.whl

FROM python:3.12-slim
COPY --from=build /opt/bowerbird /opt/bowerbird
ENV PATH=/opt/bowerbird/bin:$PATH
RUN useradd --uid 10001 --create-home bowerbird \
    && install --directory --owner bowerbird --mode 0700 /runs /data
USER 10001
VOLUME ["/runs", "/data"]
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/readyz', timeout=4)"]
ENTRYPOINT ["bowerbird"]
CMD ["serve", "/runs/live", "--data-dir", "/data", "--host", "0.0.0.0"]
