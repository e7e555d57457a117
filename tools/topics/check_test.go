package topics

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

const (
	aTrace  = "00-4bf92f3577b34da6a3ce929d0e0e4731-00f067aa0ba902b7-01"
	another = "00-4bf92f3577b34da6a3ce929d0e0e4732-00f067aa0ba902b7-01"
	body    = `{"order_id":"o","reason":{"code":"timed_out"}}`
)

func said(id, cause string, at int, change func(*event.Event)) Entry {
	e := event.Event{
		ID: id, Type: "inventory.release", Source: "/s", Subject: "o", Key: "o", CorrelationID: "o", CausationID: cause,
		Time: time.Unix(int64(at), 0).UTC(), Traceparent: aTrace, Data: []byte(body),
	}
	if change != nil {
		change(&e)
	}
	return Entry{Event: e, Record: kafka.Record{Topic: "inventory.commands", Key: []byte("o"), Value: e.Data, Headers: e.Headers()}}
}

func TestOrderPutsCausesFirst(t *testing.T) {
	t.Parallel()
	story := order([]Entry{said("c", "b", 1, nil), said("b", "a", 2, nil), said("a", "request", 3, nil)})
	var ids []string
	for _, e := range story {
		ids = append(ids, e.Event.ID)
	}
	require.Equal(t, []string{"a", "b", "c"}, ids)
	require.Len(t, order([]Entry{said("a", "b", 1, nil), said("b", "a", 2, nil)}), 2, "a circle must end too")
}

func TestCheckNamesWhatBreaksTheContracts(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check([]Entry{said("a", "request", 1, nil), said("b", "a", 2, nil), said("c", "deadline:x", 3, func(e *event.Event) {
		e.Traceparent = another // a timer begins a trace of its own
	})}, "request"))
	for says, change := range map[string]func(*event.Event){
		"no causation id":               func(e *event.Event) { e.CausationID = "" },
		"cause gone is not in the":      func(e *event.Event) { e.CausationID = "gone" },
		"is not its cause's":            func(e *event.Event) { e.Traceparent = another },
		"no trace id":                   func(e *event.Event) { e.Traceparent = "" },
		"no correlation id":             func(e *event.Event) { e.CorrelationID = "" },
		"correlation id x is not":       func(e *event.Event) { e.CorrelationID = "x" },
		"does not belong on this topic": func(e *event.Event) { e.Type = "order.created" },
		"breaks its schema":             func(e *event.Event) { e.Data = []byte(`{}`) },
		`ce_partitionkey "p"`:           func(e *event.Event) { e.Key = "p" },
	} {
		wrong := Check([]Entry{said("a", "request", 1, nil), said("b", "a", 2, change)}, "request")
		require.NotEmpty(t, wrong, says)
		require.Contains(t, strings.Join(wrong, "\n"), says)
	}
}
