// Package bench_test runs a short benchmark as one who reads docs/PERFORMANCE.md does.
package bench_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/client"
)

// TestShortBenchmark measures an embedded stack for moments, where ORDERCTL says which program does: orderctl run sets it.
func TestShortBenchmark(t *testing.T) {
	t.Parallel()
	program := os.Getenv("ORDERCTL")
	if program == "" {
		t.Log("ORDERCTL is not set: its commands are not part of this run")
		return
	}
	dir := t.TempDir()
	data, plot := filepath.Join(dir, "bench.json"), filepath.Join(dir, "bench.svg")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "bench", "--stack=embedded", "--brokers=1", "--in-flight=8", "--saga-alone=8", "--rate=10",
		"--duration=2s", "--warmup=1s", "--seed=7", "--json", data, "--svg", plot)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its stack
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, want := range []string{"seed 7", "Closed loop", "saga alone 8", "Open loop", "CPU an order by component", "The books balanced after every load"} {
		require.Contains(t, string(out), want)
	}

	text, err := os.ReadFile(data)
	require.NoError(t, err)
	var report struct {
		OK   bool `json:"ok"`
		Runs []struct {
			Load struct {
				InFlight int     `json:"in_flight"`
				Alone    bool    `json:"saga_alone"`
				Rate     float64 `json:"rate_per_s"`
			} `json:"load"`
			Figures struct {
				PerSecond float64            `json:"orders_per_s"`
				Latency   map[string]float64 `json:"end_to_end"`
				Accept    map[string]float64 `json:"accept"`
				Orders    int                `json:"orders"`
				Confirmed int                `json:"confirmed"`
				Cancelled int                `json:"cancelled"`
				Topic     float64            `json:"topic_bytes_per_order"`
				Parts     []struct {
					Name string  `json:"name"`
					CPU  float64 `json:"cpu_ms_per_order"`
					Peak float64 `json:"peak_mib"`
				} `json:"components"`
			} `json:"figures"`
		} `json:"runs"`
	}
	require.NoError(t, json.Unmarshal(text, &report))
	require.True(t, report.OK)
	require.Len(t, report.Runs, 3)
	require.Equal(t, 8, report.Runs[0].Load.InFlight)
	require.Equal(t, 8, report.Runs[1].Load.InFlight)
	require.Equal(t, 10.0, report.Runs[2].Load.Rate)
	require.Equal(t, 30, report.Runs[2].Figures.Orders, "ten a second for three seconds, however slow the machine")
	require.Equal(t, 20.0, report.Runs[2].Figures.Latency["count"])
	for i, run := range report.Runs {
		f := run.Figures
		require.Equal(t, i == 1, run.Load.Alone)
		require.Positive(t, f.PerSecond)
		require.Equal(t, f.Orders, f.Confirmed+f.Cancelled)
		require.Greater(t, f.Latency["p50_ms"], f.Accept["p50_ms"])
		require.Greater(t, f.Topic, 1000.0, "bytes")
		names := map[string]bool{}
		for _, c := range f.Parts {
			names[c.Name] = true
			if run.Load.Alone && (c.Name == "notification" || c.Name == "analytics") {
				require.LessOrEqual(t, c.CPU*float64(f.Orders), 10.0, "%s stands still: a tick of 10 ms at most", c.Name)
			} else {
				require.Positive(t, c.CPU, c.Name)
			}
			require.Greater(t, c.Peak, 5.0, c.Name)
		}
		require.Len(t, names, len(client.Services())+1, "the services and the driver: %v", names)
	}
	drawn, err := os.ReadFile(plot)
	require.NoError(t, err)
	require.Contains(t, string(drawn), "orders ended per second")
}
