package notification_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification"
)

// History beside the live service cannot be made safe here, and the start says so.
func TestReplayGroupIsRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	code := service.Run(t.Context(), "notification", service.Process{
		Environ: []string{
			"KAFKA_BROKERS=127.0.0.1:1", "REDIS_URL=redis://127.0.0.1:1", "DATABASE_URL=sqlite:" + t.TempDir() + "/replay.db",
			"REPLAY_GROUP=notification.replay",
		},
		Stdout: &out, Stderr: &out,
	}, notification.Run)
	require.Equal(t, 2, code)
	require.Contains(t, out.String(), "REPLAY_GROUP is set, must be empty for the notification service")
}
