# One program per image, chosen by PROGRAM: ./cmd/manager, or another of those that `go run ./hack/programs/list -images` prints.
#   docker build --build-arg PROGRAM=./cmd/manager --build-arg VERSION=v0.1.0 -t itechsmart/manager:v0.1.0 .
# The programs are static, and the image holds nothing else. A program that loads the library of an HSM needs cgo and a C library in
# its image: --build-arg CGO_ENABLED=1 --target libc (docs/pkcs11.md).
FROM golang:1.26-bookworm AS build
ARG PROGRAM=./cmd/manager
# VERSION is what --version prints, and the manager's default for the tag of the other images.
ARG VERSION=dev
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY hack hack
COPY internal internal
COPY workloads workloads
RUN CGO_ENABLED=$CGO_ENABLED GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /program "$PROGRAM"

FROM debian:12-slim AS libc
COPY --from=build /program /program
USER 65532:65532
ENTRYPOINT ["/program"]

FROM scratch
COPY --from=build /program /program
USER 65532:65532
ENTRYPOINT ["/program"]
