package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

// The rivals: see the packages of these names below tools/rivals.
const (
	RivalOrchestrator = "orchestrator"
	RivalSubscriber   = "subscriber"
	RivalForwarder    = "forwarder"
)

// Rivals are all that the system can be held against.
func Rivals() []string { return []string{RivalOrchestrator, RivalSubscriber, RivalForwarder} }

// servers are what rivals run on.
type servers struct {
	brokers []string
	// postgres is the superuser's way to PostgreSQL.
	postgres string
	// pids are the servers' processes by name.
	pids map[string]int
	// bin is the folder of binaries, logs that of logs.
	bin, logs string
	// prefix begins the names of databases and topics.
	prefix string
}

func serversOf(cfg Config, s *stack.Stack) servers {
	return servers{
		brokers: s.Brokers(), postgres: postgresURL(s), pids: s.PIDs(),
		bin: cfg.Stack.Bin, logs: filepath.Dir(s.LogPath("rival")), prefix: "rival-",
	}
}

// measureRivals measures the rivals one after the other. Our services have stopped. Where all was well, their databases go,
// so that PostgreSQL does not clean them up while a rival is measured.
func measureRivals(ctx context.Context, cfg Config, s servers, report *Report) error {
	if report.OK {
		if err := dropDatabases(ctx, s.postgres, client.Services()); err != nil {
			return err
		}
	}
	// Those that take orders come first, and after them what is alone on the machine.
	for _, rival := range Rivals() {
		if !slices.Contains(cfg.Rivals, rival) {
			continue
		}
		var err error
		switch rival {
		case RivalOrchestrator:
			err = measureOrchestrator(ctx, cfg, s, report)
		case RivalSubscriber:
			report.Consumptions, err = measureSubscribers(ctx, s, consumptions(), consumeFor, cfg.Progress)
		case RivalForwarder:
			report.Outboxes, err = measureOutboxes(ctx, s, drained, trickleFor, cfg.Progress)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", rival, err)
		}
	}
	return nil
}

// newDatabase makes a database and returns its URL.
func (s servers) newDatabase(ctx context.Context, name string) (string, error) {
	u, err := url.Parse(s.postgres)
	if err != nil {
		return "", errors.New("PostgreSQL's URL cannot be parsed") // it has a password
	}
	u.Path = "/" + name
	return u.String(), asSuperuser(ctx, s.postgres, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

func dropDatabases(ctx context.Context, postgres string, names []string) error {
	for _, name := range names {
		if err := asSuperuser(ctx, postgres, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

func asSuperuser(ctx context.Context, postgres, statement string) error {
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Ratio holds a run of ours against the best of a rival's.
type Ratio struct {
	// What says it in words.
	What string `json:"what"`
	// Ours and Theirs are orders a second, Times the one by the other.
	Ours   float64 `json:"ours_per_s"`
	Theirs float64 `json:"theirs_per_s"`
	Times  float64 `json:"times"`
	// OursCPU and TheirsCPU are milliseconds an order.
	OursCPU   float64 `json:"ours_cpu_ms_per_order"`
	TheirsCPU float64 `json:"theirs_cpu_ms_per_order"`
}

// ratios are of every closed and accepting load of ours.
func ratios(runs []Result) []Ratio {
	var best *Result
	for i, r := range runs {
		if r.Of != "" && r.Figures != nil && r.Load.InFlight > 0 && (best == nil || r.Figures.PerSecond > best.Figures.PerSecond) {
			best = &runs[i]
		}
	}
	var all []Ratio
	for _, r := range runs {
		if best == nil || r.Of != "" || r.Figures == nil || r.Load.Rate > 0 {
			continue
		}
		what := "whole saga at " + r.Load.String()
		switch {
		case r.Load.SagaAlone:
			what = "saga alone at " + r.Load.amount() + " in flight"
		case r.Load.Accept > 0:
			what = "accepting alone over " + r.Load.amount() + " connections"
		}
		all = append(all, Ratio{
			What: fmt.Sprintf("%s / %s at its best (%s)", what, best.Of, best.Load), Ours: r.Figures.PerSecond, Theirs: best.Figures.PerSecond,
			Times: r.Figures.PerSecond / best.Figures.PerSecond, OursCPU: r.Figures.CPUMillis, TheirsCPU: best.Figures.CPUMillis,
		})
	}
	return all
}

// perMessage is what each component used between two readings, in microseconds a message.
func perMessage(before, after map[string]time.Duration, messages int) map[string]float64 {
	used := map[string]float64{}
	for name, cpu := range after {
		used[name] = float64((cpu - before[name]).Microseconds()) / float64(messages)
	}
	return used
}

// running are the processes of those servers whose names begin so: what the others use while they idle is no cost of a rival's.
func (s servers) running(prefixes ...string) map[string]int {
	pids := map[string]int{}
	for name, pid := range s.pids {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				pids[name] = pid
			}
		}
	}
	return pids
}

// named is a name of a database, a topic or a group.
func (s servers) named(parts ...string) string { return s.prefix + strings.Join(parts, "-") }
