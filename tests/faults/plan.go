package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/client"
)

// Kind is a way to break a system.
type Kind string

// The kinds of faults; each stands in the table of docs/FAULTS.md.
const (
	KillOne      Kind = "kill one"
	KillTwo      Kind = "kill two"
	KillAll      Kind = "kill all"
	KillKafka    Kind = "kill kafka"
	KillPostgres Kind = "kill postgres"
	KillRedis    Kind = "kill redis"
)

// Shape is what a plan must fit.
type Shape struct {
	// Native has servers that are processes of their own, and can be killed.
	Native bool
	// Orders is how many are placed; at least 20.
	Orders int
}

// Plan is what happens in a run.
type Plan struct {
	Seed uint64
	Shape
	// Replicas is how many of each service there are.
	Replicas int
	// Rate is how many orders a second customers begin to place.
	Rate int
	// Steps are the faults, the first first.
	Steps []Step
}

// Step is one fault. It begins when After orders are placed. It ends when For more are placed, or after Most: nobody
// places orders while the order service is down.
type Step struct {
	Kind Kind
	// On are the processes or connections that it befalls.
	On         []string
	After, For int
	Most       time.Duration
}

const (
	// minSteps and maxSteps bound the faults of a plan.
	minSteps, maxSteps = 3, 6
	// shortest and longest bound Step.Most.
	shortest, longest = 100 * time.Millisecond, 3 * time.Second
	// slowest and fastest bound Plan.Rate.
	slowest, fastest = 40, 160
)

// kinds are all there are, and how a step of each is drawn.
var kinds = []struct {
	kind Kind
	// native says that it takes native servers.
	native bool
	on     func(r *rand.Rand, p Plan) []string
}{
	{kind: KillOne, on: func(r *rand.Rand, p Plan) []string { return some(r, p.services(), 1) }},
	{kind: KillTwo, on: func(r *rand.Rand, p Plan) []string { return some(r, p.services(), 2) }},
	{kind: KillAll, on: func(_ *rand.Rand, p Plan) []string { return p.services() }},
	{kind: KillKafka, native: true, on: server("kafka-1")},
	{kind: KillPostgres, native: true, on: server("postgres")},
	{kind: KillRedis, native: true, on: server("redis")},
}

func server(name string) func(*rand.Rand, Plan) []string {
	return func(*rand.Rand, Plan) []string { return []string{name} }
}

// some draws n of names.
func some(r *rand.Rand, names []string, n int) []string {
	drawn := make([]string, 0, n)
	for _, i := range r.Perm(len(names))[:n] {
		drawn = append(drawn, names[i])
	}
	return drawn
}

// Draw makes the plan of a seed.
func Draw(seed uint64, s Shape) Plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := Plan{Seed: seed, Shape: s, Replicas: 1, Rate: slowest + r.IntN(fastest-slowest)}
	if r.IntN(4) == 0 {
		p.Replicas = 2
	}
	for range minSteps + r.IntN(maxSteps-minSteps+1) {
		k := kinds[r.IntN(len(kinds))]
		for k.native && !s.Native {
			k = kinds[r.IntN(len(kinds))]
		}
		p.Steps = append(p.Steps, Step{
			Kind: k.kind, On: k.on(r, p),
			// None begins before some orders are under way, nor so late that none comes after it.
			After: s.Orders/20 + r.IntN(s.Orders*3/4), For: 1 + r.IntN(s.Orders/4),
			Most: shortest + time.Duration(r.Int64N(int64(longest-shortest))).Round(time.Millisecond),
		})
	}
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return a.After - b.After })
	return p
}

// services are the names of the services' processes.
func (p Plan) services() (names []string) {
	for number := 1; number <= p.Replicas; number++ {
		for _, service := range client.Services() {
			names = append(names, replica(service, number))
		}
	}
	return names
}

// replica is what a stack calls a service's process.
func replica(service string, number int) string {
	if number == 1 {
		return service
	}
	return service + "-" + strconv.Itoa(number)
}

// String is the plan for people.
func (p Plan) String() string {
	servers := "embedded"
	if p.Native {
		servers = "native"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d orders on the %s stack, %d a second, replicas: %d", p.Seed, p.Orders, servers, p.Rate, p.Replicas)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "\n  after %3d orders: %s", s.After, s)
	}
	return b.String()
}

// String is the step for people.
func (s Step) String() string {
	return fmt.Sprintf("%s (%s) for %d orders, at most %s", s.Kind, strings.Join(s.On, ", "), s.For, s.Most)
}
