package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
)

// note is a body of some 300 bytes as JSON.
type note struct {
	ID    string `json:"id"`
	Text  string `json:"text"`
	Parts []part `json:"parts"`
}

type part struct {
	Name   string `json:"name"`
	Amount int64  `json:"amount"`
}

func noted(b *testing.B) (event.Factory, note) {
	b.Helper()
	return event.NewFactory("/test"), note{
		ID: "0192d6f0-7c1e-7d5a-9f4b-3b9a4f7f2c11", Text: "Whoever reads this has read a line of plain text, and nothing came of it.",
		Parts: []part{{"the first of them", 1250}, {"the second", 99}, {"the third", 7}, {"the last of all parts", 123456}},
	}
}

// BenchmarkNew makes an event of a typed body, its JSON included.
func BenchmarkNew(b *testing.B) {
	f, body := noted(b)
	ctx := event.WithCause(b.Context(), event.Cause{ID: body.ID, CorrelationID: "story"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.New(ctx, "test.noted", "key", body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFromHeaders reads an event's envelope.
func BenchmarkFromHeaders(b *testing.B) {
	f, body := noted(b)
	e, err := f.New(event.WithCause(b.Context(), event.Cause{ID: body.ID, CorrelationID: "story"}), "test.noted", "key", body)
	require.NoError(b, err)
	headers := e.Headers()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.FromHeaders(headers, e.Data); err != nil {
			b.Fatal(err)
		}
	}
}
