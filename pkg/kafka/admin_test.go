package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func admin(t *testing.T, cfg kafka.Config) *kafka.Admin {
	t.Helper()
	a, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestReachableIsBounded(t *testing.T) {
	t.Parallel()
	a := admin(t, kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := a.Reachable(ctx)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, cfg := broker(t, 1)
	require.NoError(t, admin(t, cfg).Reachable(t.Context()))
}
