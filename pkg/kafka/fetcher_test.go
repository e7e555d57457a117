package kafka_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// What a request costs must not grow with the partitions that nothing comes to.
func TestAFetchNamesOnlyWhatMovedOn(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b", "c"}
	cluster, cfg := embedded(t, 6, topics...)
	var went, most atomic.Int64
	told := map[string]bool{}
	cluster.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetch := request.(*kmsg.FetchRequest)
		if fetch.SessionEpoch < 0 { // sarama's own
			return nil, nil, false
		}
		all, named := len(told) == 18, int64(0)
		for _, topic := range fetch.Topics {
			for _, partition := range topic.Partitions {
				told[fmt.Sprint(topic.Topic, partition.Partition)] = true
				named++
			}
		}
		if all {
			went.Add(1)
			most.Store(max(most.Load(), named))
		}
		return nil, nil, false
	})
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Group: "group", Topics: topics})
	messages := subscribe(t, s, "a")
	for _, other := range topics[1:] {
		subscribe(t, s, other)
	}
	p := publisher(t, cfg)
	for n := 0; went.Load() < 20; n++ {
		send(t, p, addressed("a", "key", n))
		m := receive(t, messages)
		require.Equal(t, fmt.Sprintf(`{"n":%d}`, n), string(m.Payload))
		m.Ack()
	}
	require.LessOrEqual(t, most.Load(), int64(1), "partitions in a request, of 18")
}

// Partitions come one after another. One that comes while a broker holds a request back must not wait for as long as a
// request may wait that nothing is to be added to.
func TestNoFetchWaitsLongWhilePartitionsCome(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 20, "topic")
	var mu sync.Mutex
	told := map[int32]bool{}
	var news, last []int32 // what requests waited for at most, in ms: those with a new partition, those after the last of these
	cluster.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetch := request.(*kmsg.FetchRequest)
		if fetch.SessionEpoch < 0 { // sarama's own
			return nil, nil, false
		}
		mu.Lock()
		defer mu.Unlock()
		known := len(told)
		for _, topic := range fetch.Topics {
			for _, partition := range topic.Partitions {
				told[partition.Partition] = true
			}
		}
		if len(told) > known {
			news, last = append(news, fetch.MaxWaitMillis), nil
		} else {
			last = append(last, fetch.MaxWaitMillis)
		}
		return nil, nil, false
	})
	subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Group: "group", Topics: []string{"topic"}}), "topic")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == 20 && len(last) >= 7
	}, patience, tick)
	mu.Lock()
	defer mu.Unlock()
	for _, wait := range append(news, last[0]) {
		require.LessOrEqual(t, wait, int32(20))
	}
	for i, wait := range last[1:] {
		require.Equal(t, min(2*last[i], 250), wait, "when nothing comes any more: %d", last)
	}
	require.Equal(t, int32(250), last[len(last)-1])
}

// Whatever a broker answers: what comes goes on where it stood, in order.
func TestAFetchThatFailsIsMadeAgain(t *testing.T) {
	t.Parallel()
	session := func(code int16) func(*kmsg.FetchResponse, *kmsg.FetchRequest) error {
		return func(r *kmsg.FetchResponse, _ *kmsg.FetchRequest) error {
			r.ErrorCode = code
			return nil
		}
	}
	partition := func(code int16) func(*kmsg.FetchResponse, *kmsg.FetchRequest) error {
		return func(r *kmsg.FetchResponse, request *kmsg.FetchRequest) error {
			r.SessionID = request.SessionID
			topic, of := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
			topic.Topic, of.ErrorCode = "topic", code
			topic.Partitions, r.Topics = append(topic.Partitions, of), append(r.Topics, topic)
			return nil
		}
	}
	for name, answer := range map[string]func(*kmsg.FetchResponse, *kmsg.FetchRequest) error{
		"the session is forgotten":     session(kerr.FetchSessionIDNotFound.Code),
		"the session is elsewhere":     session(kerr.InvalidFetchSessionEpoch.Code),
		"the broker is not well":       session(kerr.UnknownServerError.Code),
		"another broker leads":         partition(kerr.NotLeaderForPartition.Code),
		"the topic is not known yet":   partition(kerr.UnknownTopicOrPartition.Code),
		"the log does not go that far": partition(kerr.OffsetOutOfRange.Code),
		"the connection is cut":        func(*kmsg.FetchResponse, *kmsg.FetchRequest) error { return errors.New("cut") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, cfg := embedded(t, 1, "topic")
			var fetches, failed atomic.Int64
			cluster.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				fetch := request.(*kmsg.FetchRequest)
				if fetch.SessionEpoch < 1 || fetches.Add(1)%7 != 0 {
					return nil, nil, false
				}
				failed.Add(1)
				response := fetch.ResponseKind().(*kmsg.FetchResponse)
				if err := answer(response, fetch); err != nil {
					return nil, err, true
				}
				return response, nil, true
			})
			s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Group: "group", Topics: []string{"topic"}})
			messages := subscribe(t, s, "topic")
			p := publisher(t, cfg)
			for n := 0; n < 10 || failed.Load() < 2; n++ {
				send(t, p, addressed("topic", "key", n))
				for {
					m := receive(t, messages)
					m.Ack()
					got := string(m.Payload)
					if got == fmt.Sprintf(`{"n":%d}`, n) {
						break
					}
					// A log that began anew is read from the last commit on.
					require.Equal(t, "the log does not go that far", name, "message %s instead of %d", got, n)
				}
			}
		})
	}
}
