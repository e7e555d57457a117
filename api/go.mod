module github.com/orderflow/orderflow/api

go 1.26.0
