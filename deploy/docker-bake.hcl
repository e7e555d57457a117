# Every image at once: docker buildx bake -f deploy/docker-bake.hcl
variable "REGISTRY" { default = "orderflow" }
variable "TAG" { default = "dev" }
variable "GO_IMAGE" { default = "golang:1.26-bookworm" }
variable "RUNTIME_IMAGE" { default = "gcr.io/distroless/static-debian12:nonroot" }

group "default" {
  targets = ["service", "orderctl"]
}

target "base" {
  context    = "."
  dockerfile = "deploy/Dockerfile"
  args = {
    GO_IMAGE      = GO_IMAGE
    RUNTIME_IMAGE = RUNTIME_IMAGE
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
  args     = { SERVICE = "orderctl", MODULE = "tools" }
  tags     = ["${REGISTRY}/orderctl:${TAG}"]
}
