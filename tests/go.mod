module github.com/orderflow/orderflow/tests

go 1.26.0

require (
	github.com/orderflow/orderflow/api v0.0.0
	github.com/orderflow/orderflow/pkg v0.0.0
	github.com/orderflow/orderflow/tools v0.0.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/stretchr/testify v1.12.1
)

replace (
	github.com/orderflow/orderflow/api => ../api
	github.com/orderflow/orderflow/pkg => ../pkg
	github.com/orderflow/orderflow/tools => ../tools
)
