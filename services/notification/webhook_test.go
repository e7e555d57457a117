package notification_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
)

const hooks = "notifications.channel.webhook"

func (f *fixture) webhookTotals() notificationapi.ChannelTotals {
	f.t.Helper()
	totals := getJSON[notificationapi.DeliveryTotals](f, "/v1/deliveries/totals")
	require.Len(f.t, totals.Channels, 1)
	return totals.Channels[0]
}

func (f *fixture) eventually(want notificationapi.ChannelTotals) {
	f.t.Helper()
	want.Channel = "webhook"
	ok := func() bool { return f.webhookTotals() == want }
	if !ok() {
		require.Eventually(f.t, ok, soon, tick, "%+v", f.webhookTotals())
	}
}

type letter struct {
	ID        string `json:"id"`
	Group     string `json:"group"`
	State     string `json:"state"`
	ErrorType string `json:"error_type"`
	Error     string `json:"error"`
	Retries   int    `json:"retries"`
}

func (f *fixture) letters() map[string]letter {
	f.t.Helper()
	page := getJSON[struct{ Items []letter }](f, "/admin/dead-letters")
	byID := map[string]letter{}
	for _, l := range page.Items {
		byID[l.ID] = l
	}
	return byID
}

// A receiver that fails, answers too late, or is asked twice sees one id for each notification.
func TestWebhook(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(id string, n int) int {
		switch {
		case strings.HasPrefix(id, "fails-") && n <= 2:
			return http.StatusServiceUnavailable
		case strings.HasPrefix(id, "late-") && n == 1:
			return 0
		default:
			return http.StatusNoContent
		}
	})
	f := start(t, map[string]string{"WEBHOOK_URL": s.url, "WEBHOOK_TIMEOUT": "300ms"})
	for _, order := range []string{"fails-1", "late-1", "good-1", "good-2"} {
		f.publish(created(order, "c-1"), order)
	}
	f.eventually(notificationapi.ChannelTotals{Delivered: 4})
	require.Equal(t, 3, s.count("fails-1-order_placed"))
	require.Equal(t, 2, s.count("late-1-order_placed"))
	require.Equal(t, 1, s.count("good-1-order_placed"))

	var posted notificationapi.Notification
	require.NoError(t, json.Unmarshal([]byte(s.bodies["good-2-order_placed"]), &posted))
	listed := f.list("c-1")
	require.Contains(t, listed, posted)
	require.NotEmpty(t, posted.Text)

	// The queue delivers an entry again: it was delivered, so the receiver hears nothing of it.
	again := f.event(created("good-3", "c-1"), "good-3").Headers()
	headers, err := json.Marshal(again)
	require.NoError(t, err)
	require.NoError(t, f.rdb.XAdd(t.Context(), &redis.XAddArgs{
		Stream: hooks, Values: []any{"id", "again", "headers", headers, "payload", s.bodies["good-2-order_placed"]},
	}).Err())
	f.publish(created("good-3", "c-1"), "good-3")
	f.eventually(notificationapi.ChannelTotals{Delivered: 5})
	require.Eventually(t, func() bool { return f.rdb.XPending(t.Context(), hooks, "notification-webhook").Val().Count == 0 }, soon, tick)
	require.Equal(t, 1, s.count("good-2-order_placed"))

	// What is done with is removed from the queue; its last entry may stay.
	require.Eventually(t, func() bool { return f.rdb.XLen(t.Context(), hooks).Val() <= 1 }, soon, tick)
}

func TestWebhookDeadLetterAndRedrive(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(id string, _ int) int {
		switch {
		case strings.HasPrefix(id, "refused-"):
			return http.StatusUnprocessableEntity
		case strings.HasPrefix(id, "down-"):
			return http.StatusBadGateway
		default:
			return http.StatusOK
		}
	})
	f := start(t, map[string]string{"WEBHOOK_URL": s.url, "WEBHOOK_MAX_ATTEMPTS": "3"})
	for _, order := range []string{"refused-1", "down-1", "good-1"} {
		f.publish(created(order, "c-1"), order)
	}
	f.eventually(notificationapi.ChannelTotals{Delivered: 1, Failed: 2})
	require.Equal(t, 1, s.count("refused-1-order_placed"), "trying again would not help")
	require.Equal(t, 3, s.count("down-1-order_placed"))
	refused, down := hooks+"-refused-1-order_placed", hooks+"-down-1-order_placed"
	letters := f.letters()
	require.Len(t, letters, 2)
	require.Equal(t, letter{
		ID: refused, Group: "notification-webhook", State: "waiting", ErrorType: "permanent",
		Error: "webhook: the receiver answered 422 Unprocessable Entity:",
	}, trimmed(letters[refused]))
	require.Equal(t, "transient", letters[down].ErrorType)
	require.Equal(t, 2, letters[down].Retries)

	// Redriven while the receiver is still down: dead again, with fresh attempts; and once it is up: delivered.
	redrive := func(id string) {
		status, body := f.do(http.MethodPost, "/admin/dead-letters/"+id+"/redrive", `{"actor":"ada","reason":"fixed"}`)
		require.Equal(t, http.StatusAccepted, status, "%s", body)
	}
	redrive(down)
	require.Eventually(t, func() bool { return s.count("down-1-order_placed") == 6 && f.letters()[down].State == "failed_again" }, soon, tick)
	s.set(func(string, int) int { return http.StatusOK })
	redrive(down)
	redrive(refused)
	f.eventually(notificationapi.ChannelTotals{Delivered: 3})
	for _, id := range []string{refused, down} {
		require.Eventually(t, func() bool { return f.letters()[id].State == "redriven" }, soon, tick)
	}
	require.Equal(t, 7, s.count("down-1-order_placed"))
}

func trimmed(l letter) letter {
	l.Error = strings.TrimSpace(l.Error)
	return l
}

// Entries that are no notifications are dead letters and stop nothing; nor does a consumer group that is gone.
func TestWebhookForeignEntries(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(string, int) int { return http.StatusOK })
	f := start(t, map[string]string{"WEBHOOK_URL": s.url})
	var ids []string
	for _, values := range [][]any{
		{"who", "knows"},
		{"id", "x", "headers", "no json", "payload", "{}"},
		{"id", "x", "headers", "null", "payload", "no json"},
		{"id", "x", "headers", "{}", "payload", `{"id":""}`},
		{"id", "x", "headers", `{"ce_id":"\u0000\ud800"}`, "payload", "\xff\x00"},
	} {
		id, err := f.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: hooks, Values: values}).Result()
		require.NoError(t, err)
		ids = append(ids, hooks+"-"+id)
	}
	f.publish(created("o-1", "c-1"), "o-1")
	f.eventually(notificationapi.ChannelTotals{Delivered: 1})
	require.Eventually(t, func() bool { return len(f.letters()) == len(ids) }, soon, tick)
	letters := f.letters()
	for _, id := range ids {
		require.Equal(t, "undecodable", letters[id].ErrorType, id)
	}
	// A letter that never was a notification cannot be redriven.
	status, _ := f.do(http.MethodPost, "/admin/dead-letters/"+ids[0]+"/redrive", `{"actor":"ada","reason":"why not"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)

	require.NoError(t, f.rdb.FlushDB(t.Context()).Err())
	f.publish(created("o-2", "c-1"), "o-2")
	f.eventually(notificationapi.ChannelTotals{Delivered: 2})
	f.ready(true)
}

// A process that goes away with deliveries in hand leaves them to the next one.
func TestWebhookTakeover(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(string, int) int { return 0 })
	f := start(t, map[string]string{"WEBHOOK_URL": s.url, "WEBHOOK_TIMEOUT": "200ms", "WEBHOOK_MAX_ATTEMPTS": "100"})
	const orders = 10
	for i := range orders {
		order := fmt.Sprintf("o-%d", i)
		f.publish(created(order, "c-1"), order)
	}
	require.Eventually(t, func() bool {
		n := 0 // whichever comes first: they are of several partitions
		for i := range orders {
			n += s.count(fmt.Sprintf("o-%d-order_placed", i))
		}
		return n > 0
	}, soon, tick)
	f.stop()
	s.set(func(string, int) int { return http.StatusOK })
	f.run()
	f.eventually(notificationapi.ChannelTotals{Delivered: orders})
	require.Empty(t, f.letters())
}

// The trace of the event that led to it reaches the receiver.
func TestWebhookCarriesTrace(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(string, int) int { return http.StatusOK })
	f := start(t, map[string]string{"WEBHOOK_URL": s.url})
	e := f.event(created("o-1", "c-1"), "o-1")
	e.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f.again("order.created", e)
	f.eventually(notificationapi.ChannelTotals{Delivered: 1})
	require.Contains(t, s.traces["o-1-order_placed"], "0af7651916cd43dd8448eb211c80319c")
}

// Redis loses the queue with deliveries in it: they are put there again.
func TestWebhookQueueIsLost(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(string, int) int { return 0 })
	f := start(t, map[string]string{"WEBHOOK_URL": s.url, "WEBHOOK_TIMEOUT": "200ms", "WEBHOOK_MAX_ATTEMPTS": "100", "WEBHOOK_TAKEOVER": "500ms"})
	for i := range 10 {
		order := fmt.Sprintf("o-%d", i)
		f.publish(created(order, "c-1"), order)
	}
	require.Eventually(t, func() bool { return f.rdb.XLen(t.Context(), hooks).Val() == 10 }, soon, tick)
	f.stop()
	require.NoError(t, f.rdb.FlushDB(t.Context()).Err())
	s.set(func(string, int) int { return http.StatusOK })
	f.run()
	f.eventually(notificationapi.ChannelTotals{Delivered: 10})
}
