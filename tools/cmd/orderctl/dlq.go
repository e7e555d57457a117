package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// dlqCmd works on the dead letters of all services, through their operator API.
type dlqCmd struct {
	List    dlqListCmd    `cmd:"" help:"List dead letters, the last failed first."`
	Causes  dlqCausesCmd  `cmd:"" help:"Count dead letters by cause, the most frequent first: where to begin."`
	Show    dlqShowCmd    `cmd:"" help:"Show a dead letter with its headers, its body and what was done to it."`
	Redrive dlqRedriveCmd `cmd:"" help:"Hand dead letters back to the service that failed, and to no other."`
	Discard dlqDiscardCmd `cmd:"" help:"Give dead letters up for good."`
	Edit    dlqEditCmd    `cmd:"" help:"Put another body in the place of a dead letter's; the old bytes are kept."`
	Jobs    dlqJobsCmd    `cmd:"" help:"List the redrives and discards of many letters, the last begun first."`
	Follow  dlqFollowCmd  `cmd:"" help:"Follow a job until it is over."`
	Stop    dlqStopCmd    `cmd:"" help:"Have a job take no more letters; those under way are handled."`
	Audit   dlqAuditCmd   `cmd:"" help:"Show who did what, when and why."`
}

// services is where the services are; the defaults are those of 'orderctl up'.
type services struct {
	Order        string `name:"order-url" help:"Base URL of the order service." env:"ORDER_URL" default:"http://127.0.0.1:8080"`
	Inventory    string `name:"inventory-url" help:"Base URL of the inventory service." env:"INVENTORY_URL" default:"http://127.0.0.1:8081"`
	Payment      string `name:"payment-url" help:"Base URL of the payment service." env:"PAYMENT_URL" default:"http://127.0.0.1:8082"`
	Shipping     string `name:"shipping-url" help:"Base URL of the shipping service." env:"SHIPPING_URL" default:"http://127.0.0.1:8083"`
	Notification string `name:"notification-url" help:"Base URL of the notification service." env:"NOTIFICATION_URL" default:"http://127.0.0.1:8084"`
	Analytics    string `name:"analytics-url" help:"Base URL of the analytics service." env:"ANALYTICS_URL" default:"http://127.0.0.1:8085"`
}

func (s services) connect() (*client.System, error) {
	urls := map[string]string{
		"order": s.Order, "inventory": s.Inventory, "payment": s.Payment,
		"shipping": s.Shipping, "notification": s.Notification, "analytics": s.Analytics,
	}
	for name, url := range urls {
		urls[name] = strings.TrimSuffix(url, "/")
	}
	return client.New(client.Addresses{URLs: urls})
}

// scope is which services are meant, and how what they know is printed.
type scope struct {
	services `embed:"" group:"addresses"`
	Service  string `help:"Only this service's: ${enum}." enum:"all,order,inventory,payment,shipping,notification,analytics" default:"all"`
	JSON     bool   `name:"json" help:"Print JSON for programs."`
}

func (s scope) names() []string {
	if s.Service == "all" {
		return client.Services()
	}
	return []string{s.Service}
}

// ofEach lists what services have, in the order of compare, but no more than most. It tells whether there is more.
func ofEach[T any](services []string, most int, list func(service string) ([]T, bool, error), compare func(a, b T) int) (all []T, more bool, err error) {
	all = []T{}
	for _, service := range services {
		some, others, err := list(service)
		if err != nil {
			return nil, false, err
		}
		all, more = append(all, some...), more || others
	}
	slices.SortStableFunc(all, compare)
	if len(all) > most {
		all, more = all[:most], true
	}
	return all, more, nil
}

// dlqScope is which services' letters are meant.
type dlqScope struct {
	scope `embed:""`
}

// found is a dead letter and whose it is.
type found struct {
	Service string `json:"service"`
	letters.Letter
}

// owner finds whose letter an id names: two services may have given up the same record.
func (s dlqScope) owner(ctx context.Context, system *client.System, id string) (string, letters.LetterDetail, error) {
	var owner string
	var detail letters.LetterDetail
	for _, service := range s.names() {
		l, err := system.Letter(ctx, service, id)
		var refused *client.Refused
		switch {
		case errors.As(err, &refused) && refused.Status == 404:
		case err != nil:
			return "", detail, err
		case owner != "":
			return "", detail, fmt.Errorf("%s and %s both have a dead letter %s: choose one with --service", owner, service, id)
		default:
			owner, detail = service, l
		}
	}
	if owner == "" {
		return "", detail, fmt.Errorf("there is no dead letter %s at %s", id, strings.Join(s.names(), ", "))
	}
	return owner, detail, nil
}

// print shows letters; more tells whether there are others beside them.
func (s dlqScope) print(c console, all []found, more bool) error {
	if s.JSON {
		return printJSON(c, all)
	}
	if len(all) == 0 {
		say(c.out, "There are no dead letters like that.\n")
		return nil
	}
	style := terminal.For(c.out)
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "SERVICE\tID\tSTATE\tTYPE\tKEY\tFAILED AT\tTIMES\tERROR\n")
	for _, l := range all {
		key := ""
		if l.Key != nil {
			key = *l.Key
		}
		say(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.Service, l.ID, l.State, l.EventType, terminal.Clip(key, 40),
			l.FailedAt.UTC().Format(stamp), l.Failures, string(l.ErrorType)+": "+terminal.Clip(l.Error, 60))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more {
		say(c.out, "%s\n", style.Faint(fmt.Sprintf("The last %d; there are more: narrow the list, raise --limit, or count them with 'dlq causes'.", len(all))))
		return nil
	}
	say(c.out, "%s\n", style.Faint(fmt.Sprintf("%d dead letters.", len(all))))
	return nil
}

// stamp is how times are shown, in UTC.
const stamp = "2006-01-02 15:04:05Z"

type dlqListCmd struct {
	dlqScope  `embed:""`
	dlqFilter `embed:""`
	State     string `help:"Only those in this state: ${enum}; open is waiting or failed_again." enum:"all,open,waiting,redriving,failed_again,redriven,discarded" default:"all"`
	Limit     int    `help:"The most letters to list." default:"100"`
}

// Run prints a table or JSON.
func (d dlqListCmd) Run(ctx context.Context, c console) error {
	if d.Limit < 1 {
		return fmt.Errorf("--limit is %d, must be at least 1", d.Limit)
	}
	f, err := d.filter(d.State)
	if err != nil {
		return err
	}
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all, more, err := ofEach(d.names(), d.Limit, func(service string) (some []found, more bool, err error) {
		listed, more, err := system.ListLetters(ctx, service, listed(f), d.Limit)
		for _, l := range listed {
			some = append(some, found{service, l})
		}
		return some, more, err
	}, func(a, b found) int { return b.FailedAt.Compare(a.FailedAt) })
	if err != nil {
		return err
	}
	return d.print(c, all, more)
}

type dlqCausesCmd struct {
	dlqScope  `embed:""`
	dlqFilter `embed:""`
	State     string `help:"Only letters in this state: ${enum}; open is waiting or failed_again." enum:"all,open,waiting,redriving,failed_again,redriven,discarded" default:"open"`
	Limit     int    `help:"The most causes of a service." default:"20"`
}

// caused is a cause and whose letters have it.
type caused struct {
	Service string `json:"service"`
	letters.Cause
}

// Run prints a table or JSON.
func (d dlqCausesCmd) Run(ctx context.Context, c console) error {
	f, err := d.filter(d.State)
	if err != nil {
		return err
	}
	f.Limit = &d.Limit
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all := []caused{}
	for _, service := range d.names() {
		some, err := system.Causes(ctx, service, f)
		if err != nil {
			return err
		}
		for _, one := range some {
			all = append(all, caused{service, one})
		}
	}
	slices.SortStableFunc(all, func(a, b caused) int { return b.Letters - a.Letters })
	if d.JSON {
		return printJSON(c, all)
	}
	if len(all) == 0 {
		say(c.out, "There are no dead letters like that.\n")
		return nil
	}
	return printCauses(c, all)
}

func printCauses(c console, all []caused) error {
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "LETTERS\tOPEN\tSERVICE\tTOPIC\tTYPE\tFIRST\tLAST\tEXAMPLE\tERROR\tCAUSE\n")
	for _, n := range all {
		say(table, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Letters, n.Open, n.Service, n.Topic, n.EventType,
			n.FirstFailedAt.UTC().Format(stamp), n.LastFailedAt.UTC().Format(stamp), n.Example, n.ErrorType, n.Cause.Cause)
	}
	return table.Flush()
}

type dlqShowCmd struct {
	dlqScope `embed:""`
	ID       string `arg:"" help:"The dead letter, as topic-partition-offset."`
}

// Run prints everything that is known of one letter.
func (d dlqShowCmd) Run(ctx context.Context, c console) error {
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	service, l, err := d.owner(ctx, system, d.ID)
	if err != nil {
		return err
	}
	trail, _, err := system.Audit(ctx, service, l.ID, "", auditShown)
	if err != nil {
		return err
	}
	if d.JSON {
		return printJSON(c, struct {
			Service string `json:"service"`
			letters.LetterDetail
			Audit []letters.AuditEntry `json:"audit"`
		}{service, l, trail})
	}
	style := terminal.For(c.out)
	say(c.out, "%s\n", style.Bold(service+" "+l.ID))
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "  state\t%s\n  failed\t%s, %s, with %d retries the last time\n  error\t%s: %s\n",
		l.State, l.FailedAt.Format(time.RFC3339), times(l.Failures), l.Retries, l.ErrorType, terminal.Clip(l.Error, 500))
	say(table, "  cause\t%s\n", l.Cause)
	if l.Omitted != nil {
		say(table, "  omitted\t%s: it was too large, and can only be discarded\n", *l.Omitted)
	}
	for _, e := range slices.Backward(trail) {
		say(table, "  %s\t%s by %s: %s\n", e.Verb, e.At.Format(time.RFC3339), e.Actor, terminal.Clip(e.Reason+about(e), 300))
	}
	for _, name := range sortedKeys(l.Headers) {
		say(table, "  header %s\t%s\n", name, terminal.Clip(l.Headers[name], 200))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if l.Value != nil {
		say(c.out, "%s\n", *l.Value)
	} else {
		say(c.out, "%s (base64)\n", l.ValueBase64)
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
