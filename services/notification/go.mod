module github.com/orderflow/orderflow/services/notification

go 1.26.0

require (
	github.com/orderflow/orderflow/api v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/go-openapi/jsonpointer v1.0.0 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	github.com/orderflow/orderflow/api => ../../api
	github.com/orderflow/orderflow/pkg => ../../pkg
)
