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
	Show    dlqShowCmd    `cmd:"" help:"Show a dead letter with its headers and body."`
	Redrive dlqRedriveCmd `cmd:"" help:"Hand dead letters back to the service that failed, and to no other."`
	Discard dlqDiscardCmd `cmd:"" help:"Give dead letters up for good."`
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

// dlqScope is which services' letters are meant and how they are printed.
type dlqScope struct {
	services `embed:"" group:"addresses"`
	Service  string `help:"Only this service's: ${enum}." enum:"all,order,inventory,payment,shipping,notification,analytics" default:"all"`
	JSON     bool   `name:"json" help:"Print JSON for programs."`
}

func (s dlqScope) names() []string {
	if s.Service == "all" {
		return client.Services()
	}
	return []string{s.Service}
}

// found is a dead letter and whose it is.
type found struct {
	Service string `json:"service"`
	letters.Letter
}

// list reads the letters in a state, or in any for an empty one.
func (s dlqScope) list(ctx context.Context, system *client.System, state string) ([]found, error) {
	all := []found{}
	for _, service := range s.names() {
		some, err := system.Letters(ctx, service, state)
		if err != nil {
			return nil, err
		}
		for _, l := range some {
			all = append(all, found{service, l})
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return b.FailedAt.Compare(a.FailedAt) })
	return all, nil
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

func (s dlqScope) print(c console, all []found) error {
	if s.JSON {
		return printJSON(c, all)
	}
	if len(all) == 0 {
		say(c.out, "There are no dead letters like that.\n")
		return nil
	}
	style := terminal.For(c.out)
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "SERVICE\tID\tSTATE\tTYPE\tKEY\tFAILED AT\tERROR\n")
	for _, l := range all {
		key := ""
		if l.Key != nil {
			key = *l.Key
		}
		say(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Service, l.ID, l.State, l.EventType, terminal.Clip(key, 40),
			l.FailedAt.Format(time.DateTime), string(l.ErrorType)+": "+terminal.Clip(l.Error, 60))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	say(c.out, "%s\n", style.Faint(fmt.Sprintf("%d dead letters.", len(all))))
	return nil
}

type dlqListCmd struct {
	dlqScope `embed:""`
	State    string `help:"Only those in this state: ${enum}." enum:"all,waiting,redriving,redriven,discarded" default:"all"`
}

// Run prints a table or JSON.
func (d dlqListCmd) Run(ctx context.Context, c console) error {
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	state := d.State
	if state == "all" {
		state = ""
	}
	all, err := d.list(ctx, system, state)
	if err != nil {
		return err
	}
	return d.print(c, all)
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
	if d.JSON {
		return printJSON(c, struct {
			Service string `json:"service"`
			letters.LetterDetail
		}{service, l})
	}
	style := terminal.For(c.out)
	say(c.out, "%s\n", style.Bold(service+" "+l.ID))
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "  state\t%s\n  failed\t%s, %d times, with %d retries the last time\n  error\t%s: %s\n",
		l.State, l.FailedAt.Format(time.RFC3339), l.Failures, l.Retries, l.ErrorType, terminal.Clip(l.Error, 500))
	if l.Actor != "" {
		say(table, "  last touched\t%s by %s: %s\n", l.UpdatedAt.Format(time.RFC3339), l.Actor, l.Reason)
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

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// dlqVerb is what redrive and discard have in common.
type dlqVerb struct {
	dlqScope `embed:""`
	Actor    string   `help:"Who asks." env:"USER" required:""`
	Reason   string   `help:"Why; it is written down with the dead letter." required:""`
	IDs      []string `arg:"" optional:"" name:"id" help:"The dead letters, as topic-partition-offset."`
}

// each does a verb to each letter and prints what became of them. What fails is named, and the others are done.
func (d dlqVerb) each(ctx context.Context, c console, chosen []found,
	verb func(ctx context.Context, service, id string, by client.By) (letters.Letter, error),
) error {
	var errs []error
	done := []found{}
	for _, l := range chosen {
		after, err := verb(ctx, l.Service, l.ID, client.By{Actor: d.Actor, Reason: d.Reason})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, found{l.Service, after})
	}
	if len(done) > 0 || len(errs) == 0 {
		errs = append(errs, d.print(c, done))
	}
	return errors.Join(errs...)
}

// chosen finds the letters that the ids name.
func (d dlqVerb) chosen(ctx context.Context, system *client.System) ([]found, error) {
	var all []found
	for _, id := range d.IDs {
		service, l, err := d.owner(ctx, system, id)
		if err != nil {
			return nil, err
		}
		all = append(all, found{service, letters.Letter{ID: l.ID}})
	}
	return all, nil
}

type dlqRedriveCmd struct {
	dlqVerb `embed:""`
	All     bool `help:"All that are waiting, of the service named by --service or of all."`
}

// Run redrives the letters named, or all that wait.
func (d dlqRedriveCmd) Run(ctx context.Context, c console) error {
	if d.All == (len(d.IDs) > 0) {
		return errors.New("name the dead letters to redrive, or --all")
	}
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	var chosen []found
	if d.All {
		chosen, err = d.list(ctx, system, string(letters.StateWaiting))
	} else {
		chosen, err = d.chosen(ctx, system)
	}
	if err != nil {
		return err
	}
	return d.each(ctx, c, chosen, system.Redrive)
}

type dlqDiscardCmd struct {
	dlqVerb `embed:""`
}

// Run discards the letters named.
func (d dlqDiscardCmd) Run(ctx context.Context, c console) error {
	if len(d.IDs) == 0 {
		return errors.New("name the dead letters to discard")
	}
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	chosen, err := d.chosen(ctx, system)
	if err != nil {
		return err
	}
	return d.each(ctx, c, chosen, system.Discard)
}
