//go:build native

package rolling_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/client"
)

const (
	// probeEvery and tolerated are how a replica is watched: one that is not ready for so many probes gets no requests.
	probeEvery = 100 * time.Millisecond
	tolerated  = 10
)

// balancer hands requests to a service's replicas in turn, to those that are ready as far as it knows. It tries nothing
// twice: what fails, fails.
type balancer struct {
	*httptest.Server
	backends []*backend
	turn     atomic.Int64
}

type backend struct {
	url   string
	proxy *httputil.ReverseProxy
	ready atomic.Bool
	// out has it get nothing, ready or not.
	out  atomic.Bool
	busy atomic.Int64
}

func balance(t *testing.T, urls ...string) *balancer {
	t.Helper()
	b := &balancer{}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	ctx, cancel := context.WithCancel(context.Background())
	var probes sync.WaitGroup
	for _, raw := range urls {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		one := &backend{url: raw, proxy: httputil.NewSingleHostReverseProxy(u)}
		one.proxy.Transport = transport
		one.proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, r.URL.Path+" of "+raw+": "+err.Error(), http.StatusBadGateway)
		}
		one.ready.Store(true)
		b.backends = append(b.backends, one)
		probes.Go(func() { one.watch(ctx) })
	}
	b.Server = httptest.NewServer(b)
	t.Cleanup(func() {
		cancel()
		probes.Wait()
		b.Close()
		transport.CloseIdleConnections()
	})
	return b
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn := int(b.turn.Add(1)) // once a request: others take turns meanwhile
	for i := range b.backends {
		one := b.backends[(turn+i)%len(b.backends)]
		if one.serve(w, r) {
			return
		}
	}
	http.Error(w, "no replica is ready", http.StatusServiceUnavailable)
}

// serve hands the request to the replica, if that gets any.
func (b *backend) serve(w http.ResponseWriter, r *http.Request) bool {
	b.busy.Add(1)
	defer b.busy.Add(-1)
	if !b.ready.Load() || b.out.Load() {
		return false
	}
	b.proxy.ServeHTTP(w, r)
	return true
}

// await waits until the replica at url gets requests.
func (b *balancer) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	one := b.at(url)
	return client.Eventually(ctx, func(context.Context) error {
		if !one.ready.Load() {
			return fmt.Errorf("%s is not ready, as the balancer sees it", url)
		}
		return nil
	})
}

// takeOut has the replica at url get no more requests until back is called. It returns when those that it had are answered.
func (b *balancer) takeOut(ctx context.Context, url string) (back func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	one := b.at(url)
	one.out.Store(true)
	return func() { one.out.Store(false) }, client.Eventually(ctx, func(context.Context) error {
		if n := one.busy.Load(); n > 0 {
			return fmt.Errorf("%s has %d requests to answer", url, n)
		}
		return nil
	})
}

func (b *balancer) at(url string) *backend {
	return b.backends[slices.IndexFunc(b.backends, func(one *backend) bool { return one.url == url })]
}

// watch probes until ctx ends.
func (b *backend) watch(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	failed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if b.probe(ctx) {
			failed = 0
			b.ready.Store(true)
		} else if failed++; failed >= tolerated {
			b.ready.Store(false)
		}
	}
}

func (b *backend) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}
