// Command analytics runs the analytics service; --help lists its configuration.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/analytics"
)

func main() { service.Main("analytics", analytics.Run) }
