package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSpreadKeepsWhatIsThereAndSpreadsTheRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		brokers := make([]Broker, rapid.IntRange(1, 7).Draw(t, "brokers"))
		ids := make([]int32, len(brokers))
		for i := range brokers {
			ids[i] = int32(10 + i)
			brokers[i] = Broker{ID: ids[i], Rack: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "rack")}
		}
		n := rapid.IntRange(1, len(brokers)).Draw(t, "copies")
		current := make([][]int32, rapid.IntRange(1, 12).Draw(t, "partitions"))
		for p := range current {
			current[p] = rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, n, rapid.ID).Draw(t, "replicas")
		}
		for p, replicas := range spread(current, brokers, n) {
			require.Len(t, replicas, n)
			require.Equal(t, current[p], replicas[:len(current[p])])
			seen := map[int32]bool{}
			for _, id := range replicas {
				require.False(t, seen[id], "%v", replicas)
				require.Contains(t, ids, id)
				seen[id] = true
			}
		}
	})
}

func TestSpreadIsEvenAndAcrossRacks(t *testing.T) {
	t.Parallel()
	even := spread([][]int32{{1}, {2}, {3}, {1}, {2}, {3}}, []Broker{{ID: 1}, {ID: 2}, {ID: 3}}, 2)
	load := map[int32]int{}
	for _, replicas := range even {
		for _, id := range replicas {
			load[id]++
		}
	}
	require.Equal(t, map[int32]int{1: 4, 2: 4, 3: 4}, load)
	require.Equal(t, [][]int32{{1, 4, 2}}, spread([][]int32{{1}}, []Broker{{1, "a"}, {2, "a"}, {3, "a"}, {4, "b"}}, 3))
}
