package orchestrator

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Audit holds the three services' databases (their URLs by service) against what customers were told: how many orders of
// one piece were confirmed and cancelled since the tables are there. It returns what it found, and what is wrong.
func Audit(ctx context.Context, databases map[string]string, confirmed, cancelled int) (says, wrong []string, err error) {
	sums := map[string]int64{}
	prices := make([]string, 0, len(Products()))
	for _, p := range Products() {
		prices = append(prices, fmt.Sprintf("WHEN '%s' THEN %d", p.SKU, p.Price))
	}
	for _, q := range []struct{ service, names, query string }{
		{Inventory, "received available reserved value", `SELECT SUM(received)::bigint, SUM(available)::bigint, SUM(reserved)::bigint,
			SUM(reserved * CASE sku ` + strings.Join(prices, " ") + ` END)::bigint FROM stock`},
		{Inventory, "reservations held", `SELECT COUNT(*), COUNT(*) FILTER (WHERE state = 'reserved') FROM reservations`},
		{Payment, "payments charges charged", `SELECT COUNT(*), COUNT(*) FILTER (WHERE state = 'charged'),
			COALESCE(SUM(amount) FILTER (WHERE state = 'charged'), 0)::bigint FROM payments`},
		{Shipping, "shipments parcels", `SELECT COUNT(*), COUNT(*) FILTER (WHERE state = 'arranged') FROM shipments`},
	} {
		if err := sum(ctx, databases[q.service], q.query, strings.Fields(q.names), sums); err != nil {
			return nil, nil, fmt.Errorf("books of %s: %w", q.service, err)
		}
	}
	took, held := int64(confirmed+cancelled), int64(confirmed)
	for _, c := range []struct {
		name       string
		have, want int64
	}{
		{"stock taken in", sums["received"], int64(len(Products())) * Stock},
		{"stock available and reserved", sums["available"] + sums["reserved"], sums["received"]},
		{"pieces reserved, of the confirmed orders", sums["reserved"], held},
		{"reservations, one an order", sums["reservations"], took},
		{"reservations held, of the confirmed orders", sums["held"], held},
		{"payments, one an order", sums["payments"], took},
		{"payments charged, of the confirmed orders", sums["charges"], held},
		{"money charged, the price of what is reserved", sums["charged"], sums["value"]},
		{"shipments, of the confirmed orders", sums["shipments"], held},
		{"parcels arranged, of the confirmed orders", sums["parcels"], held},
	} {
		if c.have != c.want {
			wrong = append(wrong, fmt.Sprintf("the books: %s: %d, should be %d", c.name, c.have, c.want))
			continue
		}
		says = append(says, fmt.Sprintf("%s: %d", c.name, c.have))
	}
	return says, wrong, nil
}

// sum asks for one row and stores its columns by their names.
func sum(ctx context.Context, url, query string, names []string, into map[string]int64) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // only read
	values, places := make([]int64, len(names)), make([]any, len(names))
	for i := range values {
		places[i] = &values[i]
	}
	if err := conn.QueryRow(ctx, query).Scan(places...); err != nil {
		return err
	}
	for i, name := range names {
		into[name] = values[i]
	}
	return nil
}
