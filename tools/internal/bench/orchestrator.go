package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	child "github.com/orderflow/orderflow/tools/internal/process"
	"github.com/orderflow/orderflow/tools/rivals/orchestrator"
)

// rivalReady is how long a rival's process may take to serve.
const rivalReady = 30 * time.Second

// rival are the processes of the orchestrator and its services.
type rival struct {
	urls, databases map[string]string
	processes       map[string]*child.Process
	exits           chan string
}

// measureOrchestrator puts loads on the orchestrator: the orders that ours got, from the same driver.
func measureOrchestrator(ctx context.Context, cfg Config, s servers, report *Report) (err error) {
	r, err := startOrchestrator(ctx, s)
	defer func() { err = errors.Join(err, r.stop(context.WithoutCancel(ctx))) }()
	if err != nil {
		return err
	}
	pids := s.running("postgres")
	for name, p := range r.processes {
		pids[name] = p.PID()
	}
	meter, err := newMeter(ctx, s.brokers, s.postgres, pids, driver)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, meter.close(context.WithoutCancel(ctx))) }()
	shop, closeShop, err := newShop(r.urls[orchestrator.Orchestrator], cfg.Seed)
	if err != nil {
		return err
	}
	defer closeShop()
	shop.ends = nil
	for _, p := range orchestrator.Products() {
		shop.skus = append(shop.skus, p.SKU)
	}
	confirmed, cancelled := 0, 0
	subject := &subject{
		name: RivalOrchestrator, shop: shop, meter: meter, died: r.died,
		quiet: func(context.Context, []string) error { return nil }, // an answer is the end
		books: func(ctx context.Context, t *tally) (says, wrong []string, err error) {
			confirmed, cancelled = confirmed+t.confirmed, cancelled+t.cancelled
			return orchestrator.Audit(ctx, r.databases, confirmed, cancelled)
		},
	}
	return subject.measure(ctx, cfg, cfg.RivalLoads, report)
}

// startOrchestrator returns when all four serve. What was started is in r also on an error.
func startOrchestrator(ctx context.Context, s servers) (r *rival, err error) {
	r = &rival{urls: map[string]string{}, databases: map[string]string{}, processes: map[string]*child.Process{}, exits: make(chan string, 4)}
	path := filepath.Join(s.bin, "orchestrator")
	if path, err = filepath.Abs(path); err != nil {
		return r, err
	}
	if _, err := os.Stat(path); err != nil {
		return r, fmt.Errorf("build it with `make build`: %w", err)
	}
	roles := append(orchestrator.Services(), orchestrator.Orchestrator)
	ports, err := loopback.Ports(len(roles))
	if err != nil {
		return r, err
	}
	for i, role := range roles {
		r.urls[role] = "http://" + loopback.Address(ports[i])
		if role != orchestrator.Orchestrator {
			if r.databases[role], err = s.newDatabase(ctx, s.named(role)); err != nil {
				return r, err
			}
		}
	}
	for i, role := range roles {
		env := append(os.Environ(), "HTTP_ADDR="+loopback.Address(ports[i]), "DATABASE_URL="+r.databases[role])
		for _, service := range orchestrator.Services() {
			env = append(env, strings.ToUpper(service)+"_URL="+r.urls[service])
		}
		r.processes[role] = child.New(child.Config{
			Name: role, Path: path, Args: []string{role}, Env: env, Log: filepath.Join(s.logs, "rival-"+role+".log"), StopTimeout: stopTimeout,
			Exited: func(state, log string) {
				r.exits <- fmt.Sprintf("%s went down (%s); its log ends:\n%s", role, state, log)
			},
		})
	}
	ctx, cancel := context.WithTimeout(ctx, rivalReady)
	defer cancel()
	return r, child.Together(ctx, len(roles), func(ctx context.Context, i int) error {
		p := r.processes[roles[i]]
		life, err := p.Start()
		if err != nil {
			return err
		}
		return p.WaitReady(ctx, life, func(ctx context.Context) error { return ready(ctx, r.urls[roles[i]]) })
	})
}

func ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("%s says %s", url, res.Status), err)
	}
	return nil
}

func (r *rival) died() (says []string) {
	for {
		select {
		case exit := <-r.exits:
			says = append(says, exit)
		default:
			return says
		}
	}
}

// stop stops the processes as they stop in production, the orchestrator before what it calls.
func (r *rival) stop(ctx context.Context) error {
	var errs []error
	for _, role := range append([]string{orchestrator.Orchestrator}, slices.Sorted(maps.Keys(r.databases))...) {
		if p, ok := r.processes[role]; ok {
			errs = append(errs, p.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
