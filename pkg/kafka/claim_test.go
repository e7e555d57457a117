package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// A message that is finished has given its place free before run is told to look for one: run looks once, and would wait
// for a shared place, which others may never give free.
func TestPlaceIsFreeBeforeItIsToldOf(t *testing.T) {
	t.Parallel()
	c := &claim{slots: make(chan struct{}, 1), moved: make(chan struct{}, 1), mark: func(int64) {}}
	record := &sarama.ConsumerMessage{}
	c.slots <- struct{}{}
	c.hand, c.bytes = 1, size(record)
	j := job{record: record, ticket: c.tracker.start(0), slot: c.slots}

	c.mu.Lock() // nobody is told yet
	go c.finish(j)
	require.Eventually(t, func() bool { return len(c.slots) == 0 }, 10*time.Second, time.Millisecond)
	require.Empty(t, c.moved)
	c.mu.Unlock()
	<-c.moved
}
