package api

// Packages rest/* are made of openapi/*.yaml by the generator that tools/build pins; `make generate` runs this.
// The workspace is off because a workspace takes no other module file.
//
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package orderapi -o rest/order/order.gen.go openapi/order.yaml
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package inventoryapi -o rest/inventory/inventory.gen.go openapi/inventory.yaml
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package paymentapi -o rest/payment/payment.gen.go openapi/payment.yaml
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package shippingapi -o rest/shipping/shipping.gen.go openapi/shipping.yaml
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package notificationapi -o rest/notification/notification.gen.go openapi/notification.yaml
//go:generate env GOWORK=off go tool -modfile=../tools/build/go.mod oapi-codegen -config openapi/oapi-codegen.yaml -package analyticsapi -o rest/analytics/analytics.gen.go openapi/analytics.yaml
