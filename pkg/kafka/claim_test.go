package kafka

import (
	"context"
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

// empty is a Parking in which nothing is found; meanwhile is called when it has looked.
type empty struct {
	Parking
	meanwhile func()
}

func (e empty) First(context.Context, string, int32, string) ([]Parked, error) {
	e.meanwhile()
	return nil, nil
}

// A message that comes into the store while the claim looks whether its key has any left is not overtaken: the key goes on
// only when all that was on its way had been stored before the look.
func TestKeyGoesOnOnlyWhenNothingWasOnItsWay(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]bool{"stored before": true, "stored meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &claim{open: t.Context()}
			c.parks = newParks(nil, "topic", 0, 10)
			k := &parkedKey{key: "k", busy: true}
			c.parks.keys["k"] = k
			c.parks.enter(parking{key: k})
			store := func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.parks.note(c.parks.batch())
			}
			meanwhile := store
			if stored {
				store()
				meanwhile = func() {}
			}
			c.parks.store = empty{meanwhile: meanwhile}
			require.Equal(t, !stored, c.tryFirsts(k), "it looks again")
			require.Equal(t, !stored, c.parks.keys["k"] == k, "later messages go behind it")
		})
	}
}
