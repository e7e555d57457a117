package kafka_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// A full partition must not hide that it is taken away, and must not hold up another.
func TestFullPartition(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "full", "other")
	var batch []event.Addressed
	for n := range 5000 {
		a := addressed("full", "k", n)
		a.Event.Data = []byte(`"` + strings.Repeat("x", 500) + `"`)
		batch = append(batch, a)
	}
	p := publisher(t, cfg)
	send(t, p, batch...)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"full", "other"}, MaxInFlight: 2, DrainTimeout: time.Millisecond})
	full, other := subscribe(t, s, "full"), subscribe(t, s, "other")
	require.Equal(t, "k-0", receive(t, full).UUID) // and is not answered
	for n := range 50 {
		send(t, p, addressed("other", "k", n))
		m := receive(t, other)
		require.Equal(t, fmt.Sprintf("k-%d", n), m.UUID)
		m.Ack()
	}
	require.NoError(t, s.Close())

	// Everything of the full partition comes, in order, through its pauses.
	s = subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"full"}, MaxInFlight: 2, Group: "fresh"})
	full = subscribe(t, s, "full")
	for n := range 5000 {
		m := receive(t, full)
		require.Equal(t, fmt.Sprintf("k-%d", n), m.UUID)
		m.Ack()
	}
}

// large is an event of so many bytes or more, in its value or in a header.
func large(topic, key string, size int, header bool) event.Addressed {
	a := addressed(topic, key, 0)
	text := strings.Repeat("x", size)
	if header {
		a.Event.Subject = text
	} else {
		a.Event.Data = []byte(`"` + text + `"`)
	}
	return a
}

// Messages in hand have a bound in bytes too, headers included: the next waits until there is room, and a larger one comes
// alone.
func TestBytesInHandAreBounded(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]bool{"values": false, "headers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := broker(t, 1, "topic")
			p := publisher(t, cfg)
			for n, size := range []int{100, 100, 1500, 100, 100} {
				send(t, p, large("topic", fmt.Sprint(n), size, header))
			}
			messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, MaxInFlightBytes: 1000}), "topic")
			got := map[string]*message.Message{}
			take := func(n int) {
				for range n {
					m := receive(t, messages)
					got[m.UUID] = m
				}
			}
			take(2)
			require.Contains(t, got, "0-0")
			require.Contains(t, got, "1-0")
			nothing(t, messages)
			got["1-0"].Ack() // which does not move the offset
			nothing(t, messages)
			got["0-0"].Ack()
			take(1)
			require.Contains(t, got, "2-0", "larger than the bound")
			nothing(t, messages)
			got["2-0"].Ack()
			take(2)
			got["3-0"].Ack()
			got["4-0"].Ack()
		})
	}
}

// The bound in bytes is for all partitions together: each has its share, which one that is stuck leaves to it.
func TestBytesOfAllPartitionsAreBounded(t *testing.T) {
	t.Parallel()
	const total, each = 8000, 1500 // of a share, two fit
	_, cfg := broker(t, 1, "stuck", "other")
	p := publisher(t, cfg)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"stuck", "other"}, MaxInFlightBytes: total, DrainTimeout: time.Millisecond})
	stuck, other := subscribe(t, s, "stuck"), subscribe(t, s, "other")
	for topic, messages := range map[string]<-chan *message.Message{"stuck": stuck, "other": other} {
		send(t, p, addressed(topic, "first", 0))
		receive(t, messages).Ack() // from here on there are two to share
		for n := range 6 {
			send(t, p, large(topic, fmt.Sprint(n), each, false))
		}
	}
	receive(t, stuck)
	receive(t, stuck)
	nothing(t, stuck)
	hand := []*message.Message{receive(t, other), receive(t, other)}
	nothing(t, other)
	for range 4 {
		hand[0].Ack()
		hand = append(hand[1:], receive(t, other))
	}
	nothing(t, stuck)
}

// Partitions share a bound beyond the first messages of each: those that are stuck leave the others theirs.
func TestInFlightOfAllPartitionsIsBounded(t *testing.T) {
	t.Parallel()
	const own, total = 32, 10
	_, cfg := broker(t, 1, "stuck", "other")
	p := publisher(t, cfg)
	fill := func(topic string) {
		var batch []event.Addressed
		for n := range 100 {
			batch = append(batch, addressed(topic, fmt.Sprint("k", n), 0))
		}
		send(t, p, batch...)
	}
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"stuck", "other"}, MaxInFlightTotal: total, DrainTimeout: time.Millisecond})
	stuck, other := subscribe(t, s, "stuck"), subscribe(t, s, "other")
	fill("stuck")
	var hand []*message.Message
	for range own + total {
		hand = append(hand, receive(t, stuck))
	}
	nothing(t, stuck)
	fill("other")
	var others []*message.Message
	for range own {
		others = append(others, receive(t, other))
	}
	nothing(t, other)
	others[0].Ack()
	others = append(others, receive(t, other)) // its own place
	hand[own].Ack()                            // a shared one, or one of its own
	got := len(others)
	select {
	case m := <-stuck:
		m.Ack()
	case m := <-other:
		m.Ack()
		got++
	case <-time.After(10 * time.Second):
		t.Fatal("the place is nobody's")
	}
	for _, m := range others[1:] {
		m.Ack()
	}
	for range 100 - got {
		receive(t, other).Ack()
	}
}
