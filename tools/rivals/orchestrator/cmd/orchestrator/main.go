// Command orchestrator is one process of the plain alternative to Orderflow: see package orchestrator.
package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/orderflow/orderflow/tools/rivals/orchestrator"
)

func main() {
	var cfg orchestrator.Config
	parser := kong.Parse(&cfg, kong.Name("orchestrator"), kong.Description("Runs one process of a synchronous order system, a benchmark's rival."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	parser.FatalIfErrorf(orchestrator.Run(ctx, cfg))
}
