package events_test

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
)

func TestEveryGoodSampleIsAcceptedQuickly(t *testing.T) {
	t.Parallel()
	for _, m := range events.All() {
		quick, err := events.Quick(m.Type)
		require.NoError(t, err, "%s would cost the library's price each time: teach package accept the keyword", m.Type)
		for _, s := range samples(t, "valid", m.Type) {
			require.True(t, quick.Accepts(s.Data), "%s/%s", m.Type, s.Name)
			body := m.New()
			require.NoError(t, json.Unmarshal(s.Data, body))
			written, err := json.Marshal(body)
			require.NoError(t, err)
			require.True(t, quick.Accepts(written), "%s/%s, as the services write it", m.Type, s.Name)
		}
		for _, s := range samples(t, "invalid", m.Type) {
			require.False(t, quick.Accepts(s.Data), "%s/%s", m.Type, s.Name)
		}
	}
}

func created(lines int) []byte {
	euros := events.Money{Amount: 1250, Currency: "EUR"}
	order := events.OrderCreated{
		OrderID: "0192d6f0-7c1e-7d5a-9f4b-3b9a4f7f2c11", CustomerID: "cust-42", Version: 1, Total: euros,
		ShippingAddress: events.Address{Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE"},
		CreatedAt:       time.Date(2026, 11, 21, 10, 15, 30, 123456000, time.UTC),
	}
	for range lines {
		order.Lines = append(order.Lines, events.PricedLine{SKU: "MUG-BLUE", Quantity: 2, UnitPrice: euros})
	}
	data, err := json.Marshal(order)
	if err != nil {
		panic(err)
	}
	return data
}

func TestAcceptingAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun refuses parallel tests.
	data := created(2)
	require.NoError(t, events.Validate(events.TypeOrderCreated, data))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = events.Validate(events.TypeOrderCreated, data) }))
}

// BenchmarkValidate holds Validate (quick) against the schema library alone, by orders of one and of 50 lines. cpu-ns/op
// is of the process, so it means something on a busy machine too.
func BenchmarkValidate(b *testing.B) {
	checks := map[string]func(string, []byte) error{"quick": events.Validate, "library": events.ValidateByLibrary}
	for _, lines := range []int{1, 50} {
		data := created(lines)
		for _, name := range []string{"library", "quick"} {
			b.Run(fmt.Sprintf("%d_lines/%s", lines, name), func(b *testing.B) {
				require.NoError(b, checks[name](events.TypeOrderCreated, data))
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				start := cpu(b)
				for b.Loop() {
					_ = checks[name](events.TypeOrderCreated, data)
				}
				b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkJSON reads and writes a typed message, an order of one line.
func BenchmarkJSON(b *testing.B) {
	data := created(1)
	var order events.OrderCreated
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			order = events.OrderCreated{}
			if err := json.Unmarshal(data, &order); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		require.NoError(b, json.Unmarshal(data, &order))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(order); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// cpu is what this process has used of its cores.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
