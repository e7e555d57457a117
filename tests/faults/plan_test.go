package faults

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// seeds is how many plans are looked at.
const seeds = 100

func TestOneSeedOnePlan(t *testing.T) {
	t.Parallel()
	shape := Shape{Orders: 300}
	require.Equal(t, Draw(7, shape), Draw(7, shape))
	require.Equal(t, draw(Draw(7, shape)), draw(Draw(7, shape)))
	different := 0
	for seed := range uint64(seeds) {
		if !reflect.DeepEqual(Draw(seed, shape).Steps, Draw(seed+1, shape).Steps) {
			different++
		}
	}
	require.Equal(t, seeds, different)
	require.NotEqual(t, draw(Draw(7, shape)), draw(Draw(8, shape)))
}

func TestEveryFaultIsInTheFirstSeeds(t *testing.T) {
	t.Parallel()
	for _, native := range []bool{false, true} {
		seen, points, replicas := map[Kind]int{}, map[string]int{}, map[int]int{}
		for seed := range uint64(seeds) {
			p := Draw(seed, Shape{Orders: 300, Native: native})
			replicas[p.Replicas]++
			for _, s := range p.Steps {
				seen[s.Kind]++
				points[string(s.Kind)+" "+s.With]++
			}
		}
		for _, k := range kinds {
			if k.in == nil || k.in(Plan{Shape: Shape{Native: native}, Provider: true}) {
				require.Positive(t, seen[k.kind], k.kind)
			} else {
				require.Zero(t, seen[k.kind], k.kind)
			}
		}
		for _, at := range passed {
			require.Positive(t, points[string(DieAt)+" "+string(at.point)], at.point)
		}
		for _, m := range manners {
			require.Positive(t, points[string(Outside)+" "+string(m)], m)
		}
		require.Len(t, replicas, 2)
	}
}

func TestPlansCanBeCarriedOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(seeds) {
		for _, orders := range []int{20, 300} {
			p := Draw(seed, Shape{Orders: orders, Native: seed%2 == 0})
			require.NotEmpty(t, p.Steps)
			for _, s := range p.Steps {
				require.NotEmpty(t, s.On)
				require.Positive(t, s.After)
				require.Less(t, s.After, orders, "there are orders after it")
				require.Positive(t, s.For)
				require.Positive(t, s.Most)
				require.LessOrEqual(t, s.Most, longest)
			}
		}
	}
}

func TestEveryStoryIsInTheOrders(t *testing.T) {
	t.Parallel()
	of := 0
	for _, s := range stories {
		of += s.of
	}
	require.Equal(t, 100, of)
	seen := map[string]bool{}
	for _, o := range draw(Draw(1, Shape{Orders: 1000})) {
		seen[describe(o.story)] = true
	}
	for _, s := range stories {
		require.True(t, seen[describe(s)], describe(s))
	}
}

func describe(s story) string {
	return fmt.Sprint(s.token, s.sku, s.city, s.country, s.cancel, s.impatient, s.twice)
}
