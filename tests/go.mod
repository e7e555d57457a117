module github.com/orderflow/orderflow/tests

go 1.26.0

require (
	github.com/orderflow/orderflow/api v0.0.0
	github.com/orderflow/orderflow/pkg v0.0.0
)

replace (
	github.com/orderflow/orderflow/api => ../api
	github.com/orderflow/orderflow/pkg => ../pkg
)
