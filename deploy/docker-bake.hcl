# Every image, or those that are named: docker buildx bake -f deploy/docker-bake.hcl payment orderctl
variable "REGISTRY" { default = "orderflow" }
variable "TAG" { default = "dev" }
variable "REVISION" { default = "" }
variable "SOURCE_DATE_EPOCH" { default = "0" }
variable "GO_IMAGE" { default = "golang:1.26-bookworm" }
variable "RUNTIME_IMAGE" { default = "gcr.io/distroless/static-debian12:nonroot" }

group "default" {
  targets = ["service", "orderctl"]
}

target "base" {
  context    = "."
  dockerfile = "deploy/Dockerfile"
  args = {
    GO_IMAGE          = GO_IMAGE
    RUNTIME_IMAGE     = RUNTIME_IMAGE
    VERSION           = TAG
    REVISION          = REVISION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
}

target "service" {
  inherits = ["base"]
  name     = service
  matrix   = { service = ["order", "inventory", "payment", "shipping", "notification", "analytics"] }
  args     = { SERVICE = service }
  tags     = ["${REGISTRY}/${service}:${TAG}"]
}

target "orderctl" {
  inherits = ["base"]
  target   = "command"
  args     = { SERVICE = "orderctl", MODULE = "tools" }
  tags     = ["${REGISTRY}/orderctl:${TAG}"]
}
