//go:build native

package profiles_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

// obs are Prometheus and Alertmanager.
type obs struct{ prometheus, alertmanager string }

// startPrometheus starts both with Compose's commands and files. What differs: they look every two seconds, and names like
// order:8080, which Compose's network knows, are known to a proxy.
func startPrometheus(t *testing.T, s *stack.Stack, services map[string]composed) *obs {
	t.Helper()
	prometheus, alertmanager := port(t), port(t)
	names := map[string]string{"alertmanager:9093": "http://" + alertmanager}
	for _, service := range client.Services() {
		names[service+":8080"] = s.URL(service)
	}
	network := httptest.NewServer(&httputil.ReverseProxy{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Rewrite: func(r *httputil.ProxyRequest) {
		to, err := url.Parse(names[r.In.Host])
		if err != nil || names[r.In.Host] == "" {
			to = &url.URL{Scheme: "http", Host: r.In.Host + ".invalid"}
		}
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
	}})
	t.Cleanup(network.Close)

	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy/prometheus"))))
	file := filepath.Join(dir, "prometheus.yml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var cfg struct {
		Global    map[string]string
		RuleFiles []string `yaml:"rule_files"`
		Alerting  struct{ Alertmanagers []map[string]any }
		Scrape    []map[string]any `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal(text, &cfg))
	cfg.Global = map[string]string{"scrape_interval": "2s", "evaluation_interval": "2s"}
	for _, part := range append(cfg.Scrape, cfg.Alerting.Alertmanagers...) {
		part["proxy_url"] = network.URL
	}
	text, err = yaml.Marshal(cfg)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	start := func(name, config, data, address string, binaries ...string) {
		command := []string{program(t, binaries...), "--web.listen-address=" + address}
		for _, arg := range services[name].Command {
			arg = strings.Replace(arg, "=/etc/"+name, "="+config, 1)
			command = append(command, strings.Replace(arg, "=/"+name, "="+data, 1))
		}
		run(t, name, "", command...)
	}
	start("alertmanager", filepath.Join(root, "deploy/alertmanager"), t.TempDir(), alertmanager, "prometheus-alertmanager", "alertmanager")
	start("prometheus", dir, t.TempDir(), prometheus, "prometheus")
	return &obs{"http://" + prometheus, "http://" + alertmanager}
}

// sees: every service is scraped, every rule is evaluated, the dashboard has something to show, and a dead letter is an
// alert in Alertmanager.
func (o *obs) sees(t *testing.T) {
	eventually(t, "every service is up", func() error {
		up, err := o.query(t, `up{job="orderflow"} == 1`, "service")
		if err == nil && len(up) != len(client.Services()) {
			err = fmt.Errorf("only %v are", up)
		}
		return err
	})
	o.rules(t)
	o.dashboards(t)
	eventually(t, "the dead letter is an alert in Alertmanager", func() error {
		var alerts []struct {
			Labels, Annotations map[string]string
			Receivers           []struct{ Name string }
		}
		if err := get(t, o.alertmanager+"/api/v2/alerts", &alerts); err != nil {
			return err
		}
		for _, a := range alerts {
			if a.Labels["alertname"] == "DeadLetters" && a.Labels["group"] == "inventory" && len(a.Receivers) == 1 {
				t.Logf("alert: %s: %s (%s)", a.Labels["alertname"], a.Annotations["summary"], a.Labels["severity"])
				return nil
			}
		}
		return fmt.Errorf("there are %d others", len(alerts))
	})
}

func (o *obs) rules(t *testing.T) {
	t.Helper()
	eventually(t, "every rule is evaluated", func() error {
		var answer struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := get(t, o.prometheus+"/api/v1/rules", &answer); err != nil {
			return err
		}
		n := 0
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				n++
			}
		}
		if n == 0 {
			return fmt.Errorf("there are none")
		}
		t.Logf("rules: %d, all are evaluated", n)
		return nil
	})
}

// dashboards asks what Grafana would ask.
func (o *obs) dashboards(t *testing.T) {
	t.Helper()
	// What only trouble makes: nothing is shown, and that is right.
	trouble := []string{"saga_deadlines_fired_total", `status=~"5.."`}
	paths, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	require.NoError(t, err)
	n := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &board))
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				expression := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h").Replace(target.Expr)
				quiet := false
				for _, word := range trouble {
					quiet = quiet || strings.Contains(expression, word)
				}
				eventually(t, panel.Title, func() error {
					series, err := o.query(t, expression, "")
					if err == nil && len(series) == 0 && !quiet {
						err = fmt.Errorf("%s has no series", expression)
					}
					return err
				})
				n++
			}
		}
	}
	require.NotZero(t, n)
	t.Logf("dashboard: %d queries, all are answered", n)
}

// query returns a label of each series that an expression has.
func (o *obs) query(t *testing.T, expression, label string) (values []string, err error) {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	err = get(t, o.prometheus+"/api/v1/query?query="+url.QueryEscape(expression), &answer)
	for _, series := range answer.Data.Result {
		values = append(values, series.Metric[label])
	}
	return values, err
}
