package service_test

import (
	"context"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/service"
)

// Profiles are served where they were asked for, not with the API, and no longer than the process lives.
func TestProfiles(t *testing.T) {
	t.Parallel()
	p := start(t, func(context.Context, config, *service.Runtime) error { return nil }, "PPROF_ADDR=127.0.0.1:0")
	api := <-p.started
	ready(t, api)
	found := regexp.MustCompile(`"url":"(http://127.0.0.1:[0-9]+/debug/pprof/)"`).FindStringSubmatch(p.out.String())
	require.Len(t, found, 2, p.out.String())
	for _, name := range []string{"", "heap?debug=1", "goroutine?debug=1", "profile?seconds=1"} {
		status, body := get(t, found[1]+name)
		require.Equal(t, http.StatusOK, status, name)
		require.NotEmpty(t, body, name)
	}
	status, _ := get(t, api+"/debug/pprof/")
	require.NotEqual(t, http.StatusOK, status)
	p.stop()
	require.Zero(t, <-p.code)
	status, _ = get(t, found[1])
	require.Zero(t, status, "nobody answers")
}
