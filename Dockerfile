# One program per image, chosen by PROGRAM: ./cmd/manager, ./workloads/dataflow/worker or ./workloads/vault.
#   docker build --build-arg PROGRAM=./cmd/manager -t itechsmart/manager .
FROM golang:1.26 AS build
ARG PROGRAM=./cmd/manager
ARG TARGETOS=linux
ARG TARGETARCH=amd64
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY hack hack
COPY internal internal
COPY workloads workloads
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath -ldflags="-s -w" -o /program "$PROGRAM"

FROM scratch
COPY --from=build /program /program
USER 65532:65532
ENTRYPOINT ["/program"]
