# The sidecar's image, and with --target init the init container's; `make image` builds both.
# Only the builder has a compiler and pip. What is added to the base is bounded by tools/image.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS builder
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends binutils gcc libc6-dev >/dev/null \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_QUIET=1
WORKDIR /source
COPY requirements/compile.lock requirements/runtime.lock requirements/
RUN python -m venv /builder \
    && /builder/bin/pip install --no-deps --require-hashes --requirement requirements/compile.lock \
    && python -m venv --without-pip /opt/pillion \
    && /builder/bin/pip --python /opt/pillion/bin/python install --no-deps --require-hashes \
        --requirement requirements/runtime.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY api api
COPY cli cli
COPY control control
COPY core core
COPY discovery discovery
COPY identity identity
COPY inject inject
COPY multicluster multicluster
COPY policy policy
COPY proxy proxy
COPY redirect redirect
COPY resources resources
ARG COMMIT=
RUN PILLION_COMMIT=${COMMIT} PILLION_COMPILE=1 /builder/bin/pip wheel --no-deps \
        --no-build-isolation --wheel-dir /wheel . \
    && /builder/bin/pip --python /opt/pillion/bin/python install --no-deps /wheel/*.whl \
    && /builder/bin/pip --python /opt/pillion/bin/python uninstall --yes setuptools \
    && find /opt/pillion -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE} AS sidecar
# The base's own installers: nothing is ever installed into a running sidecar.
RUN python -c "import glob, importlib.util, os, shutil, site; \
names = ('pip', 'setuptools', 'wheel', 'pkg_resources', '_distutils_hack'); \
patterns = [each for name in names for each in (name, name + '-*-info')]; \
found = [path for folder in site.getsitepackages() for each in patterns \
    for path in glob.glob(os.path.join(folder, each))]; \
spec = importlib.util.find_spec('ensurepip'); \
[shutil.rmtree(path) for path in found + ([os.path.dirname(spec.origin)] if spec else [])]; \
[os.remove(path) for folder in site.getsitepackages() \
    for path in glob.glob(os.path.join(folder, 'distutils-precedence.pth'))]" \
    && rm -rf /usr/share/python-wheels /usr/local/bin/pip* /usr/bin/pip*
COPY --from=builder /opt/pillion /opt/pillion
ENV PATH=/opt/pillion/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
# The base comes without the library's bytecode, and a sidecar cannot write any: it would compile
# every module at each start.
RUN PYTHONDONTWRITEBYTECODE= python -c "import cli.main, cli.sidecar, control.bootstrap, \
control.issuer_client, control.launch, cli.worker, cli.workers, proxy.admin.joined, \
proxy.net.loads, proxy.net.sibling, proxy.admin.pages, proxy.admin.policies, proxy.admin.server, \
proxy.telemetry.log"
USER 2102:2102
EXPOSE 4140 4143 4191
ENTRYPOINT ["/opt/pillion/bin/pillion"]
CMD ["proxy"]
ARG COMMIT=
ARG VERSION=
LABEL org.opencontainers.image.title="pillion" \
    org.opencontainers.image.description="A service-mesh sidecar" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}" \
    org.opencontainers.image.version="${VERSION}"

FROM sidecar AS init
USER 0:0
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends iptables nftables >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
CMD ["redirect", "install"]
LABEL org.opencontainers.image.title="pillion-init" \
    org.opencontainers.image.description="The capture rules of a service-mesh sidecar"

# What is built when no target is named.
FROM sidecar
