package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/tests/faults/inject"
	"github.com/orderflow/orderflow/tools/client"
)

// Kind is a way to break a system.
type Kind string

// The kinds of faults; docs/FAULTS.md says what each is.
const (
	KillOne Kind = "kill one"
	KillTwo Kind = "kill two"
	KillAll Kind = "kill all"
	// Restart is of processes that are told to stop, as a deploy does.
	Restart      Kind = "restart"
	KillKafka    Kind = "kill kafka"
	KillPostgres Kind = "kill postgres"
	KillRedis    Kind = "kill redis"
	// DieAt, FailAt and HangAt are at points of package failpoint.
	DieAt  Kind = "die at"
	FailAt Kind = "fail at"
	HangAt Kind = "hang at"
	Clock  Kind = "clock jumps"
	Disk   Kind = "disk full"
	// Cut to HalfOpen are of the network between a service and a server.
	Cut      Kind = "network cut"
	Refuse   Kind = "network refuses"
	Slow     Kind = "network slow"
	Stall    Kind = "network stalls"
	HalfOpen Kind = "network half open"
	// Again, Late and Shuffled are of records that stand in a topic and come a second time.
	Again    Kind = "records again"
	Late     Kind = "records late"
	Shuffled Kind = "records shuffled"
	// Outside is a payment provider and a carrier behind HTTP that answer badly.
	Outside Kind = "provider"
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
	// Provider has a payment provider and a carrier behind HTTP in the place of the sandboxes.
	Provider bool
	// Rate is how many orders a second customers begin to place.
	Rate int
	// Steps are the faults, the first first.
	Steps []Step
}

// Step is one fault. It begins when After orders are placed. It ends when For more are placed, or after Most: nobody
// places orders while the order service is down.
type Step struct {
	Kind Kind
	// On are the processes that it befalls, or what else only one fault at a time can be on: "payment to kafka".
	On []string
	// With is what there is to know beside: a point, a topic, how far a clock jumps.
	With       string
	After, For int
	Most       time.Duration
}

const (
	// minSteps and maxSteps bound the faults of a plan.
	minSteps, maxSteps = 3, 8
	// shortest and longest bound Step.Most.
	shortest, longest = 100 * time.Millisecond, 3 * time.Second
	// slowest and fastest bound Plan.Rate.
	slowest, fastest = 20, 80
)

// kind is how a step of a Kind is drawn.
type kind struct {
	kind Kind
	// often is how many of a hundred or so steps are of this kind.
	often int
	// in tells whether a plan can have it; nil is always.
	in func(p Plan) bool
	// draw says on what, and with what.
	draw func(r *rand.Rand, p Plan) (on []string, with string)
}

// kinds are all there are.
var kinds = []kind{
	{KillOne, 10, nil, func(r *rand.Rand, p Plan) ([]string, string) { return some(r, p.processes(), 1), "" }},
	{KillTwo, 6, nil, func(r *rand.Rand, p Plan) ([]string, string) { return some(r, p.processes(), 2), "" }},
	{KillAll, 3, nil, func(_ *rand.Rand, p Plan) ([]string, string) { return p.processes(), "" }},
	{Restart, 6, nil, func(r *rand.Rand, p Plan) ([]string, string) { return some(r, p.processes(), 1), "" }},
	{KillKafka, 8, native, on("kafka-1")},
	{KillPostgres, 8, native, on("postgres")},
	{KillRedis, 5, native, on("redis")},
	{DieAt, 20, nil, func(r *rand.Rand, p Plan) ([]string, string) { return at(r, p, passed) }},
	{FailAt, 10, nil, func(r *rand.Rand, p Plan) ([]string, string) { return at(r, p, failing) }},
	{HangAt, 6, nil, func(r *rand.Rand, p Plan) ([]string, string) { return at(r, p, passed) }},
	{Clock, 5, nil, func(r *rand.Rand, p Plan) ([]string, string) {
		by := time.Duration(1+r.IntN(jump)) * time.Second
		if r.IntN(2) == 0 {
			by = -by
		}
		return some(r, p.processes(), 1), by.String()
	}},
	{Disk, 6, embedded, func(r *rand.Rand, p Plan) ([]string, string) { return some(r, p.processes(), 1), "" }},
	{Cut, 5, nil, link},
	{Refuse, 5, nil, link},
	{Slow, 4, nil, link},
	{Stall, 4, nil, link},
	{HalfOpen, 3, nil, link},
	{Again, 5, nil, records},
	{Late, 3, nil, records},
	{Shuffled, 3, nil, records},
	{Outside, 30, func(p Plan) bool { return p.Provider }, func(r *rand.Rand, _ Plan) ([]string, string) {
		return []string{"provider"}, string(manners[r.IntN(len(manners))])
	}},
}

// jump bounds how far a clock jumps, in seconds: a saga's deadline that was set by it must come while somebody waits.
const jump = 30

var (
	// passed says which services come to which points.
	passed = []place{
		{failpoint.ConsumerBeforeCommit, client.Services()},
		{failpoint.ConsumerAfterCommit, client.Services()},
		{failpoint.OffsetBeforeCommit, client.Services()},
		{failpoint.CallAnswered, []string{"payment", "shipping"}},
		{failpoint.LetterSent, []string{"payment", "shipping"}},
		{failpoint.RelayBeforeSend, senders},
		{failpoint.RelayAfterSend, senders},
		{failpoint.FeedAppended, []string{"notification"}},
		{failpoint.RequestBeforeCommit, []string{"order"}},
		{failpoint.RequestAfterCommit, []string{"order"}},
		{failpoint.TimerBeforeCommit, []string{"order"}},
	}
	// failing are the points that have an error to return.
	failing = slices.DeleteFunc(slices.Clone(passed), func(p place) bool { return p.point == failpoint.OffsetBeforeCommit })
	senders = []string{"order", "inventory", "payment", "shipping"}
	manners = []inject.Manner{
		inject.Fails, inject.FailsAfter, inject.Hangs, inject.HangsAfter, inject.Tears, inject.Twice, inject.Denies, inject.Pretends,
	}
)

// place is a point and the services that come to it.
type place struct {
	point failpoint.Point
	by    []string
}

func native(p Plan) bool   { return p.Native }
func embedded(p Plan) bool { return !p.Native }

func on(name string) func(*rand.Rand, Plan) ([]string, string) {
	return func(*rand.Rand, Plan) ([]string, string) { return []string{name}, "" }
}

func at(r *rand.Rand, p Plan, places []place) (on []string, with string) {
	at := places[r.IntN(len(places))]
	return []string{replica(at.by[r.IntN(len(at.by))], 1+r.IntN(p.Replicas))}, string(at.point)
}

// link draws a network's: a service and a server that it speaks to.
func link(r *rand.Rand, p Plan) (on []string, with string) {
	service := client.Services()[r.IntN(len(client.Services()))]
	servers := []string{"kafka"}
	if p.Native {
		servers = append(servers, "postgres")
	}
	if service == "notification" {
		servers = append(servers, "redis")
	}
	return []string{linkName(service, servers[r.IntN(len(servers))])}, ""
}

// linkName is what a step calls the connections of a service to a server.
func linkName(service, server string) string { return service + " to " + server }

// records draws a topic's. On native servers Kafka must be up for it, so it is on that too.
func records(r *rand.Rand, p Plan) (on []string, with string) {
	topics := slices.DeleteFunc(events.Topics(), func(t events.Topic) bool { return t.Kind != events.KindEvent && t.Kind != events.KindCommand })
	on = []string{topics[r.IntN(len(topics))].Name}
	if p.Native {
		on = append(on, "kafka-1")
	}
	return on, ""
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
	p.Provider = r.IntN(4) == 0
	var bag []kind
	for _, k := range kinds {
		if k.in == nil || k.in(p) {
			bag = append(bag, slices.Repeat([]kind{k}, k.often)...)
		}
	}
	for range minSteps + r.IntN(maxSteps-minSteps+1) {
		k := bag[r.IntN(len(bag))]
		on, with := k.draw(r, p)
		p.Steps = append(p.Steps, Step{
			Kind: k.kind, On: on, With: with,
			// None begins before some orders are under way, nor so late that none comes after it.
			After: s.Orders/20 + r.IntN(s.Orders*3/4), For: 1 + r.IntN(s.Orders/4),
			Most: shortest + time.Duration(r.Int64N(int64(longest-shortest))).Round(time.Millisecond),
		})
	}
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return a.After - b.After })
	return p
}

// processes are the names of the services' processes.
func (p Plan) processes() (names []string) {
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

// explains tells whether a service may give up messages whatever order they are of: only what speaks to a provider that
// fails and fails again.
func (p Plan) explains(service string) bool {
	return p.Provider && (service == "payment" || service == "shipping")
}

// String is the plan for people.
func (p Plan) String() string {
	servers := "embedded"
	if p.Native {
		servers = "native"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d orders on the %s stack, %d a second, replicas: %d, providers behind HTTP: %t", p.Seed, p.Orders, servers, p.Rate, p.Replicas, p.Provider)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "\n  after %3d orders: %s", s.After, s)
	}
	return b.String()
}

// String is the step for people.
func (s Step) String() string {
	on := strings.Join(s.On, ", ")
	if s.With != "" {
		on += ": " + s.With
	}
	return fmt.Sprintf("%s (%s) for %d orders, at most %s", s.Kind, on, s.For, s.Most)
}
