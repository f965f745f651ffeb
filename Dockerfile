# tiller as one native file:
#
#   docker build -t tiller .
#   docker run --rm -v "$PWD:/work" tiller fit --model /work/model --positive /work/a.txt --negative /work/b.txt --out /work/a.tiller
#
# With the CUDA libraries (docs/cuda.md); the driver alone is enough for decoding:
#
#   docker build -t tiller-cuda --build-arg RUNTIME=nvidia/cuda:12.9.1-runtime-ubuntu24.04 .
#   docker run --rm --gpus all tiller-cuda devices
ARG RUNTIME=mcr.microsoft.com/dotnet/runtime-deps:10.0-noble

FROM mcr.microsoft.com/dotnet/sdk:10.0-noble AS build
WORKDIR /src
COPY . .
RUN tools/docker/build.sh /image

FROM ${RUNTIME}
COPY --from=build /image /opt/tiller
ENV XDG_CACHE_HOME=/tmp NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /work
ENTRYPOINT ["/opt/tiller/tiller"]
