# Fixwright in one image: `fixwright web`, `ingest` or `worker` is chosen by the command.
# syntax=docker/dockerfile:1

FROM node:24-bookworm-slim AS browser
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/fixwright
COPY requirements/run.lock requirements/run.lock
RUN /opt/fixwright/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements/run.lock
COPY . .
COPY --from=browser /build/node_modules node_modules
RUN /opt/fixwright/bin/python -m api.web.assets \
    && /opt/fixwright/bin/pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.11-slim-bookworm
RUN groupadd --system fixwright \
    && useradd --system --gid fixwright --home-dir /var/lib/fixwright --create-home fixwright
COPY --from=build /opt/fixwright /opt/fixwright
ENV PATH=/opt/fixwright/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FIXWRIGHT_DATA_DIR=/var/lib/fixwright \
    FIXWRIGHT_HTTP_BIND=0.0.0.0:8000 \
    FIXWRIGHT_LOG_FORMAT=json
USER fixwright
WORKDIR /var/lib/fixwright
VOLUME /var/lib/fixwright
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
ENTRYPOINT ["fixwright"]
CMD ["web"]
