package app

import (
	"errors"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// The defaults are allowed, and a value out of its range is named with what is allowed.
func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	var cfg Config
	require.NoError(t, env.ParseWithOptions(&cfg, env.Options{Environment: map[string]string{}}))
	require.Empty(t, cfg.Validate())

	var wrong Config
	require.NoError(t, env.ParseWithOptions(&wrong, env.Options{Environment: map[string]string{
		"CONSUMER_MAX_IN_FLIGHT": "0", "CONSUMER_MAX_IN_FLIGHT_BYTES": "1023", "CONSUMER_MAX_IN_FLIGHT_TOTAL": "100001", "CONSUMER_PARKED_MAX": "0", "REQUEST_BATCH_MAX": "1025", "REQUEST_WAITING_MAX": "100001",
		"REQUESTS_MAX": "-1", "INBOX_RETENTION": "1m", "IDEMPOTENCY_RETENTION": "1s", "LAG_INTERVAL": "1ms", "DEAD_LETTER_RETENTION": "1m", "CONSUMER_BATCH_MAX": "0",
	}}))
	err := errors.Join(wrong.Validate()...)
	for _, want := range []string{
		"CONSUMER_MAX_IN_FLIGHT is 0, must be from 1 to 10000", "CONSUMER_MAX_IN_FLIGHT_BYTES is 1023, must be from 1024 to 1073741824",
		"CONSUMER_MAX_IN_FLIGHT_TOTAL is 100001, must be from 1 to 100000", "CONSUMER_PARKED_MAX is 0, must be from 1 to 1000000",
		"REQUEST_BATCH_MAX is 1025, must be from 1 to 1024", "REQUEST_WAITING_MAX is 100001, must be from 1 to 100000",
		"REQUESTS_MAX is -1, must be from 1 to 100000", "INBOX_RETENTION is 1m0s, must be from 1h to 8760h",
		"IDEMPOTENCY_RETENTION is 1s, must be from 1m to 720h", "LAG_INTERVAL is 1ms, must be from 100ms to 1h", "DEAD_LETTER_RETENTION is 1m0s, must be from 1h to 87600h", "CONSUMER_BATCH_MAX is 0, must be from 1 to 1024",
	} {
		require.ErrorContains(t, err, want)
	}
}

// How long a topic keeps its records is read from its declaration, whatever shape that has.
func TestRetention(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ms, policy string
		want       time.Duration
	}{
		{"", "", 0}, {"", "delete", 0}, {"1500", "", 1500 * time.Millisecond}, {"1500", "compact,delete", 1500 * time.Millisecond},
		{"-1", "delete", forever}, {"9223372036854775807", "", forever}, {"1500", "compact", forever},
	} {
		configs := map[string]string{}
		if tc.ms != "" {
			configs["retention.ms"] = tc.ms
		}
		if tc.policy != "" {
			configs["cleanup.policy"] = tc.policy
		}
		got, err := retention(kafka.Topic{Name: "t", Configs: configs})
		require.NoError(t, err)
		require.Equal(t, tc.want, got, tc)
	}
	_, err := retention(kafka.Topic{Name: "t", Configs: map[string]string{"retention.ms": "2h"}})
	require.EqualError(t, err, `topic t: retention.ms is "2h", must be a number of milliseconds, or -1 for ever`)
}
