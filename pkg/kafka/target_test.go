package kafka

import (
	"math"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

func TestNumbersGoOnAtZeroAfterTheLargest(t *testing.T) {
	t.Parallel()
	c := newCall(4)
	to := &target{most: math.MaxInt32, producer: nobody}
	for i := range c.entries {
		c.set(i, "topic", nil, nil, func(func(string, string) bool) {})
		to.queue = append(to.queue, &c.entries[i])
	}
	require.NotNil(t, to.next(1<<20, sarama.CompressionNone))
	to.identify(identity{id: 7})
	to.sequence = math.MaxInt32 - 1
	to.identify(identity{id: 8})
	require.EqualValues(t, 7, to.batch.records.ProducerID, "a producer is kept")
	require.EqualValues(t, math.MaxInt32-1, to.batch.records.FirstSequence)
	to.taken()
	// Of four records, two have the largest numbers, and the others 0 and 1.
	require.EqualValues(t, 2, to.sequence)
	<-c.done
	require.Nil(t, c.results())
}
