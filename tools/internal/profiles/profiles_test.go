//go:build native

package profiles_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

// TestProfiles starts a whole Orderflow on Kafka, Redis and PostgreSQL, and both profiles beside it; then customers order.
func TestProfiles(t *testing.T) {
	native := os.Getenv("NATIVE_DIR")
	require.NotEmpty(t, native, "NATIVE_DIR must be the folder of the native stack: run this with `make test-profiles-native`")
	libs := filepath.Join(native, "libs")
	s, err := stack.Start(t.Context(), stack.Options{
		Bin: filepath.Join(root, "bin"), Dir: t.TempDir(), Native: &stack.Native{Libs: libs, Brokers: 1}, ReadyTimeout: patience,
		Env: map[string][]string{"": {"LOG_LEVEL=warn", "LAG_INTERVAL=500ms"}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	urls := map[string]string{}
	for _, service := range client.Services() {
		urls[service] = s.URL(service)
	}
	system, err := client.New(client.Addresses{URLs: urls, Brokers: s.Brokers(), RedisURL: s.RedisURL()})
	require.NoError(t, err)
	defer system.Close()

	services := compose(t)
	debezium := startDebezium(t, s, services["debezium"], libs, filepath.Join(native, "connect", "debezium"))
	o := startPrometheus(t, s, services)
	debezium.reads(t)
	orders(t, system)
	t.Run("cdc", debezium.copies)
	garbage(t, s.Brokers())
	t.Run("obs", o.sees)
}

// orders are placed until each has ended: some are confirmed, some cancelled, and some need a second try.
func orders(t *testing.T, system *client.System) {
	t.Helper()
	for _, token := range []string{"tok_approved", "tok_declined", "tok_fail_twice"} {
		for range 5 {
			o, err := system.Place(t.Context(), uuid.NewString(), orderapi.CreateOrderRequest{
				CustomerID: "ada", PaymentMethod: token, Lines: []orderapi.Line{{SKU: "MUG-BLUE", Quantity: 1}},
				ShippingAddress: orderapi.Address{Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: "Zürich", Country: "CH"},
			})
			require.NoError(t, err)
			_, err = system.Ended(t.Context(), o.OrderID)
			require.NoError(t, err)
		}
	}
}

// garbage becomes a dead letter.
func garbage(t *testing.T, brokers []string) {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{
		Config: kafka.Config{Brokers: brokers, ClientID: "profiles"}, Guarantee: kafka.AtLeastOnce,
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, p.SendRecord(t.Context(), kafka.Record{Topic: "inventory.commands", Key: []byte("nobody"), Value: []byte("{")}))
	require.NoError(t, p.Close())
}
