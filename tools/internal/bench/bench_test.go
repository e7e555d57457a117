package bench

import (
	"context"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	// sarama measures; its library has one goroutine for good.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestPercentilesOfAKnownSample(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := range 1000 {
		samples = append(samples, time.Duration(1000-i)*time.Millisecond) // 1 to 1000 ms, the largest first
	}
	require.Equal(t, Latency{Count: 1000, P50: 500, P90: 900, P99: 990, P999: 999, Max: 1000}, latencyOf(samples))
	require.Equal(t, Latency{Count: 1, P50: 7, P90: 7, P99: 7, P999: 7, Max: 7}, latencyOf([]time.Duration{7 * time.Millisecond}))
	require.Equal(t, Latency{Count: 2, P50: 1, P90: 3, P99: 3, P999: 3, Max: 3},
		latencyOf([]time.Duration{3 * time.Millisecond, time.Millisecond}))
	require.Equal(t, Latency{}, latencyOf(nil))
}

func TestOneSeedMakesTheSameOrders(t *testing.T) {
	t.Parallel()
	s, same, other := shop{seed: 7, skus: []string{"A", "B", "C"}}, shop{seed: 7, skus: []string{"A", "B", "C"}}, shop{seed: 8, skus: []string{"A", "B", "C"}}
	declined, differs := 0, false
	skus := map[string]int{}
	for n := range uint64(10_000) {
		r, pays := s.request(n)
		again, paysAgain := same.request(n)
		require.Equal(t, r, again)
		require.Equal(t, pays, paysAgain)
		require.Equal(t, pays, r.PaymentMethod == "tok_approved")
		if !pays {
			declined++
		}
		skus[r.Lines[0].SKU]++
		o, _ := other.request(n)
		differs = differs || o.PaymentMethod != r.PaymentMethod
	}
	require.InDelta(t, 1000, declined, 100)
	require.True(t, differs)
	require.Len(t, skus, 3)
}

func TestEndsMeetTheirOrders(t *testing.T) {
	t.Parallel()
	k := newTracker()
	first, second := end{at: time.Unix(1, 0), confirmed: true}, end{at: time.Unix(2, 0)}
	ch, _ := k.await("later")
	k.ended("later", first)
	require.Equal(t, first, <-ch)
	k.ended("earlier", first)
	k.ended("earlier", second) // a record that came twice
	ch, _ = k.await("earlier")
	require.Equal(t, first, <-ch)
	ch, forget := k.await("never")
	forget()
	k.ended("never", first)
	require.Empty(t, ch)
	require.Empty(t, k.waiting)
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	// The name has brackets and blanks in it.
	p, err := parseStat("42 (a) b (c) S 7 1 1 0 -1 4194304 102 0 0 0 11 22 3 4 20 0 1 0 587758 3133440 386")
	require.NoError(t, err)
	require.Equal(t, process{pid: 42, parent: 7, cpu: 330 * time.Millisecond, reaped: 70 * time.Millisecond}, p)
	for _, bad := range []string{"", "42 a S 7", "42 (a) S 7", "42 (a) S x 1 1 0 -1 4194304 102 0 0 0 11 22 3 4 20 0 1"} {
		_, err := parseStat(bad)
		require.Error(t, err, bad)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	_, err := busy(proc)
	require.ErrorIs(t, err, os.ErrNotExist)
	for text, want := range map[string]time.Duration{
		"cpu  1 20 300 9 9 4000 50000 600000 7 7\ncpu0 1": 654321 * tick, "cpu 1 2": 0, "cpus 1 2 3 4 5 6 7 8": 0, "cpu 1 2 x 4 5 6 7 8": 0,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(proc, "stat"), []byte(text), 0o600))
		got, err := busy(proc)
		require.Equal(t, want, got, text)
		require.Equal(t, want == 0, err != nil, text)
	}
}

func TestTreesOfProcesses(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	add := func(pid, parent, cpu, reaped, anon, file, shared string) {
		dir := filepath.Join(proc, pid)
		require.NoError(t, os.Mkdir(dir, 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"),
			[]byte(pid+" (x) S "+parent+" 1 1 0 -1 0 0 0 0 0 "+cpu+" 0 "+reaped+" 0 20 0 1"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "status"),
			[]byte("Name:\tx\nRssAnon:\t"+anon+" kB\nRssFile:\t"+file+" kB\nRssShmem:\t"+shared+" kB\n"), 0o600))
	}
	add("1", "0", "1", "0", "1", "1", "0")
	add("10", "1", "100", "900", "8", "4", "0")   // the driver
	add("20", "10", "10", "5", "100", "10", "50") // a server with children
	add("21", "20", "3", "0", "7", "12", "40")
	add("22", "21", "1", "0", "1", "1", "1")
	require.NoError(t, os.Mkdir(filepath.Join(proc, "sys"), 0o750))

	trees, err := measureTrees(proc, map[string]int{"driver": 10, "server": 20}, "driver")
	require.NoError(t, err)
	require.Equal(t, map[string]usage{
		"driver": {cpu: time.Second, memory: 12 << 10},
		"server": {cpu: 190 * time.Millisecond, memory: (108 + 12 + 50) << 10},
	}, trees)
	_, err = measureTrees(proc, map[string]int{"payment": 99}, "driver")
	require.ErrorContains(t, err, "payment (process 99) is gone")
}

// sample is a report with a run of each kind.
func sample() Report {
	wal := 12345.6
	figures := func(rate, scale float64) *Figures {
		return &Figures{
			PerSecond: rate, EndToEnd: Latency{Count: 10, P50: 8 * scale, P90: 10 * scale, P99: 15 * scale, P999: 21 * scale, Max: 22 * scale},
			Accept: Latency{Count: 10, P50: 1, P90: 2, P99: 3, P999: 4, Max: 5}, Orders: 100, Confirmed: 90, Cancelled: 10,
			Components: []Component{{"driver", 0.1, 20}, {"order", 0.25, 64}}, CPUMillis: 0.35, WALBytes: &wal, TopicBytes: 6100,
			Books: []string{"stock: 1 = 1"},
		}
	}
	r := Report{OK: true, Seed: 7, Stack: "native", BreakInSeconds: 60, WarmupSeconds: 5, WindowSeconds: 10, Machine: Machine{
		CPU: "Abacus", Cores: 2, Memory: "1 kB", Kernel: "6", Go: "go1.26", Revision: "abc", Servers: []string{"Apache Kafka 4.3.1"},
	}}
	r.Runs = []Result{
		{Load: Load{InFlight: 64}, Figures: figures(1000, 4)}, {Load: Load{InFlight: 256}, Figures: figures(2500.5, 9)},
		{Load: Load{Rate: 20}, Figures: figures(20, 1)}, {Load: Load{Rate: 300}, Figures: figures(300, 2)},
	}
	r.Runs[1].Figures.Refused, r.Runs[1].Figures.Errors, r.Runs[1].Figures.FirstError = 12, 3, "500: no"
	return r
}

// withRivals is the sample with an accepting load, and with every rival.
func withRivals() Report {
	r := sample()
	accept, alone, closed, open := *r.Runs[0].Figures, *r.Runs[0].Figures, *r.Runs[1].Figures, *r.Runs[2].Figures
	alone.PerSecond, alone.CPUMillis = 1500, 0.3
	accept.PerSecond, closed.PerSecond, closed.CPUMillis = 7500, 500, 3.5
	closed.Errors, closed.FirstError, closed.Components = 0, "", []Component{{"driver", 0.5, 20}, {"inventory", 1, 30}, {"postgres", 2, 200}}
	open.Components, open.Books = closed.Components, []string{"parcels: 90"}
	r.Runs = append(r.Runs, Result{Load: Load{InFlight: 256, SagaAlone: true}, Figures: &alone}, Result{Load: Load{Accept: 256}, Figures: &accept},
		Result{Of: RivalOrchestrator, Load: Load{InFlight: 16}, Figures: &closed}, Result{Of: RivalOrchestrator, Load: Load{Rate: 20}, Figures: &open})
	r.Ratios = ratios(r.Runs)
	used := map[string]float64{"kafka-1": 2, "driver": 10.25}
	for _, c := range consumptions()[:2] {
		c.Messages, c.PerSecond, c.CPUMicros = 60_000, 12345.67, used
		r.Consumptions = append(r.Consumptions, c)
	}
	r.Outboxes = []Outbox{{
		Outbox: nameWatermillSQL, Messages: 10_000, PerSecond: 999.9, CPUMicros: used,
		Trickle: Latency{Count: 500, P50: 1, P90: 2, P99: 3, P999: 4, Max: 5}, TrickleCPUMicros: used,
	}}
	return r
}

func TestRatiosAreAgainstTheRivalsBest(t *testing.T) {
	t.Parallel()
	r := withRivals()
	second := *r.Runs[len(r.Runs)-2].Figures
	second.PerSecond = 250
	r.Runs = append(r.Runs, Result{Of: RivalOrchestrator, Load: Load{InFlight: 256}, Figures: &second}, Result{Of: RivalOrchestrator, Load: Load{InFlight: 4}})
	got := ratios(r.Runs)
	require.Len(t, got, 4, "closed and accepting loads of ours")
	require.Equal(t, "whole saga at 64 in flight / orchestrator at its best (16 in flight)", got[0].What)
	require.Equal(t, 2.0, got[0].Times)
	require.Equal(t, 3.5, got[0].TheirsCPU)
	require.Equal(t, "saga alone at 256 in flight / orchestrator at its best (16 in flight)", got[2].What)
	require.Equal(t, 3.0, got[2].Times)
	require.Equal(t, 0.3, got[2].OursCPU)
	require.Equal(t, "accepting alone over 256 connections / orchestrator at its best (16 in flight)", got[3].What)
	require.Equal(t, 15.0, got[3].Times)
	require.Empty(t, ratios(sample().Runs), "nobody to be held against")
}

func TestGroupsOfWhoStandsStillAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	all := client.Groups()
	require.Equal(t, all, groupsBut(all, nil))
	going := groupsBut(all, listeners)
	require.Contains(t, going, "payment")
	require.Contains(t, going, deadletter.IndexGroup("payment"))
	require.Len(t, all, len(going)+2*len(listeners))
	for group := range going {
		require.NotRegexp(t, "^(notification|analytics)", group)
	}
}

func TestACellHasSoManyMessagesThatItTakesItsTime(t *testing.T) {
	t.Parallel()
	require.Len(t, consumptions(), 32)
	for want, c := range map[int]Consumption{
		60_000: {Subscriber: nameWatermillKafka, Partitions: 1, Keys: 1},
		20:     {Subscriber: nameWatermillKafka, Partitions: 1, Keys: manyKeys, HandlerMillis: 100},
		120:    {Subscriber: nameWatermillKafka, Partitions: 6, Keys: manyKeys, HandlerMillis: 100},
		5120:   {Subscriber: nameOurs, Partitions: 1, Keys: manyKeys, HandlerMillis: 100},
		20_000: {Subscriber: nameOurs, Partitions: 6, Keys: manyKeys, HandlerMillis: 100},
		200:    {Subscriber: nameOurs, Partitions: 6, Keys: 1, HandlerMillis: 10},
	} {
		require.Equal(t, want, c.amount(2*time.Second), "%+v", c)
	}
}

func TestArrivals(t *testing.T) {
	t.Parallel()
	record := func(n int) *sarama.ConsumerMessage {
		value, err := numbered{n: n}.MarshalJSON()
		require.NoError(t, err)
		require.Len(t, value, messageBytes)
		require.True(t, json.Valid(value))
		return &sarama.ConsumerMessage{Key: []byte(key(n)), Value: value}
	}
	a := newArrivals(3000)
	a.record(record(5))
	a.record(record(1005))
	last, err := a.wait(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, a.at[1005], last)
	took := a.since(1005, []time.Time{last.Add(-time.Second)})
	require.Equal(t, []time.Duration{time.Second}, took)
	require.Equal(t, []time.Duration{0}, a.since(1005, []time.Time{last.Add(time.Second)}))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newArrivals(1).wait(ended, 1)
	require.ErrorContains(t, err, "0 of 1 messages are in Kafka")
	for says, wrong := range map[string]*sarama.ConsumerMessage{
		"message 5 came twice": record(5), "not of this run": {Value: []byte("{}")}, "message 1006 of key-6 came after 2006": record(1006),
	} {
		a := newArrivals(3000)
		a.record(record(5))
		a.record(record(2006))
		a.record(wrong)
		require.ErrorContains(t, a.wrong(), says)
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Report{"plot.svg": sample(), "rivals.svg": withRivals()} {
		got := r.SVG()
		require.Equal(t, got, r.SVG())
		require.NotContains(t, got, "NaN")
		equalsGolden(t, name, got)
	}
	require.NotContains(t, Report{}.SVG(), "NaN", "a plot of nothing")
}

func TestAxes(t *testing.T) {
	t.Parallel()
	for v, step := range map[float64]float64{0: 1, 0.003: 0.005, 1: 1, 1.1: 2, 4: 5, 5: 5, 7: 10, 120: 200, 1000: 1000} {
		require.InDelta(t, step, niceStep(v), 1e-9, "%g", v)
	}
	require.Equal(t, "0.3", shortNumber(0.1+0.2))
	require.False(t, math.IsInf(niceStep(0), 0))
}

// equalsGolden holds a text against a file of testdata, or writes the file with -update.
func equalsGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestReportForPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Report{"report.txt": sample(), "rivals.txt": withRivals()} {
		var out strings.Builder
		r.Print(&out, terminal.For(&out))
		equalsGolden(t, name, out.String())

		text, err := json.Marshal(r)
		require.NoError(t, err)
		var back Report
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, r, back)
	}
}

func TestAWrongRunHasNoFigures(t *testing.T) {
	t.Parallel()
	r := sample()
	r.OK = false
	r.Runs = []Result{{Load: Load{InFlight: 64}, Wrong: []string{"the books: one order is missing"}}, r.Runs[2]}
	var out strings.Builder
	r.Print(&out, terminal.For(&out))
	require.Contains(t, out.String(), "64 in flight: no figures, because\n  ✗ the books: one order is missing")
	require.NotContains(t, out.String(), "Closed loop")
	require.NotContains(t, out.String(), "balanced")
	require.NotContains(t, r.SVG(), "in flight")
	r.Runs = r.Runs[:1]
	r.Print(&out, terminal.For(&out))
	require.NotContains(t, r.SVG(), "circle")
}

func TestFiguresAreByTheOrder(t *testing.T) {
	t.Parallel()
	began := time.Unix(100, 0)
	before := reading{at: began, busy: time.Hour, wal: 1000, topics: 500, trees: map[string]usage{"order": {cpu: time.Second}, "driver": {}}}
	after := reading{at: began.Add(10 * time.Second), busy: time.Hour + 8*time.Second, wal: 3000, topics: 900, trees: map[string]usage{"order": {cpu: 3 * time.Second}, "driver": {cpu: time.Second}}}
	run := &tally{from: began, to: began.Add(4 * time.Second), confirmed: 9, cancelled: 1, ended: 8, accept: []time.Duration{time.Millisecond}, endToEnd: []time.Duration{time.Second}}
	f := figures(run, before, after, map[string]int64{"order": 3 << 20})
	require.Equal(t, 2.0, f.PerSecond)
	require.Equal(t, 200.0, *f.WALBytes)
	require.Nil(t, figures(run, reading{}, reading{}, nil).WALBytes, "no PostgreSQL")
	require.Equal(t, 40.0, f.TopicBytes)
	require.Equal(t, 300.0, f.CPUMillis)
	require.InDelta(t, 50/float64(runtime.NumCPU()), f.OthersPercent, 1e-9, "8 s of CPU in 10 s, 3 s of them ours")
	require.Equal(t, []Component{{"driver", 100, 0}, {"order", 200, 3}}, f.Components)
	require.Equal(t, 1000.0, f.EndToEnd.P50)
	require.Empty(t, run.wrong())
	require.Equal(t, []string{"no order ended in the window"}, (&tally{}).wrong())
	astray := slices.Repeat([]string{"x"}, 9)
	require.Equal(t, []string{"x", "x", "x", "x", "x", "and 4 more"}, (&tally{astray: astray}).wrong())
}
