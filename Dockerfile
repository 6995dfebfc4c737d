# The page of `make app` as an image, with what it imports: neither TensorFlow nor DVC.
#
# The model and its data are not in it. Training images belong to the lab, and may belong to patients; a project folder
# that `dvc repro` has finished is mounted instead, read-only and under its own path, so that links into DVC's cache
# lead where they should. Run this in that folder:
#
#     docker build --tag dermoscopy-app PATH_OF_THIS_PROJECT
#     docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#         --volume "$PWD:$PWD:ro" --workdir "$PWD" --publish 127.0.0.1:7860:7860 dermoscopy-app
#
# data.source=directory: mount the folder of images the same way. docs/app.md says how a lab serves it to others.

FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements-serve.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --requirement requirements-serve.txt

FROM python:3.13-slim
COPY --from=build /venv /venv
COPY dermoscopy /app/dermoscopy
COPY apps /app/apps
# The code is the image's, not that of the project which is mounted: PYTHONSAFEPATH keeps the current folder out of it.
ENV PATH="/venv/bin:$PATH" PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860', timeout=4)"]
ENTRYPOINT ["python", "-m", "apps.web", "--host", "0.0.0.0"]
