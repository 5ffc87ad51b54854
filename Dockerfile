# Debian 12 is the NAS's own generation: the same libpam and libxcrypt give the NAS's own answers,
# yescrypt included, and security updates of all parts come from one source. Python is Debian's, so
# there is no second one to update.

FROM debian:bookworm-slim AS build
COPY requirements.txt /
# versions are not pinned: what Debian has is the last secure one
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && pip install --no-cache-dir --require-hashes --target /app -r /requirements.txt

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="ugos-auth-proxy" \
      org.opencontainers.image.description="Checks NAS passwords with PAM, for authentik" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /app /app
COPY main.py authentik-sync.py deploy/check-login deploy/healthcheck.py /app/
COPY deploy/ugos-auth-proxy.pam /etc/pam.d/ugos-auth-proxy
# The last step, as nothing can be installed after it: the accounts are the host's, found anew at
# each look.
RUN for file in passwd shadow group; do ln -sf "/host/etc/$file" "/etc/$file"; done

# by number: a name would be looked up in the host's files; 42 is Debian's group shadow
USER 65534:42
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python3", "/app/healthcheck.py"]
ENTRYPOINT ["python3", "/app/main.py"]
