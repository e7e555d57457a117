package service_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/service"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	join := make(chan struct{})
	p := start(t, func(ctx context.Context, _ config, rt *service.Runtime) error {
		return rt.Await(ctx, "group", func(context.Context) error {
			select {
			case <-join:
				return nil
			default:
				return fault.Unavailablef("not joined")
			}
		})
	})
	addr := strings.TrimPrefix(<-p.started, "http://")
	// Nothing else of the configuration is needed for it.
	check := func(arg string) (int, string) {
		var out bytes.Buffer
		code := service.Run(t.Context(), "shop", service.Process{Args: []string{arg}, Environ: []string{"HTTP_ADDR=" + addr}, Stdout: io.Discard, Stderr: &out},
			func(context.Context, config, *service.Runtime) error { return nil })
		return code, out.String()
	}
	code, out := check("-healthcheck")
	require.Equal(t, 0, code, "it lives while it starts: %s", out)
	code, out = check("-healthcheck=ready")
	require.Equal(t, 1, code)
	require.Contains(t, out, "/readyz answers 503")
	code, _ = check("-healthcheck=now")
	require.Equal(t, 2, code)
	close(join)
	require.Eventually(t, func() bool { code, _ := check("-healthcheck=ready"); return code == 0 }, 10*time.Second, 5*time.Millisecond)
	p.stop()
	require.Equal(t, 0, <-p.code)
}
