// Package monitoring_test holds the alert rules and the dashboards against the metrics that the services have.
package monitoring_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const root = "../../.."

// registered are the metrics that the code of pkg and services makes, as Prometheus stores them.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	// Prometheus's own, and the client library's, which every process has.
	metrics := map[string]bool{
		"up": true, "process_cpu_seconds_total": true, "process_resident_memory_bytes": true, "process_start_time_seconds": true,
	}
	for _, dir := range []string{"pkg", "services"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				switch n := node.(type) {
				case *ast.CompositeLit:
					if kind, ok := prometheusName(n.Type); ok && strings.HasSuffix(kind, "Opts") {
						for _, name := range stored(strings.TrimSuffix(kind, "Opts"), field(n, "Name")) {
							metrics[name] = true
						}
					}
				case *ast.CallExpr:
					if kind, ok := prometheusName(n.Fun); ok && kind == "NewDesc" {
						metrics[text(n.Args[0])] = true
					}
				}
				return true
			})
			return nil
		}))
	}
	require.Greater(t, len(metrics), 20, "metrics are found in the code")
	return metrics
}

// prometheusName is X of an expression prometheus.X.
func prometheusName(e ast.Expr) (string, bool) {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	pkg, ok := s.X.(*ast.Ident)
	return s.Sel.Name, ok && pkg.Name == "prometheus"
}

func field(lit *ast.CompositeLit, name string) string {
	for _, element := range lit.Elts {
		if kv, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return text(kv.Value)
			}
		}
	}
	return ""
}

func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(lit.Value) // empty for what is no string
	return s
}

// stored are a metric's names in Prometheus.
func stored(kind, name string) []string {
	if kind == "Histogram" {
		return []string{name + "_bucket", name + "_count", name + "_sum"}
	}
	return []string{name}
}

// unknown are the metrics of an expression that no service has.
func unknown(t *testing.T, expression string, metrics map[string]bool) (names []string) {
	t.Helper()
	for _, variable := range []string{"$__rate_interval", "$__range"} {
		expression = strings.ReplaceAll(expression, variable, "5m")
	}
	parsed, err := promql.NewParser(promql.Options{}).ParseExpr(expression)
	require.NoError(t, err, expression)
	promql.Inspect(parsed, func(node promql.Node, _ []promql.Node) error {
		if v, ok := node.(*promql.VectorSelector); ok {
			name := v.Name
			for _, m := range v.LabelMatchers {
				if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
					name = m.Value
				}
			}
			if !metrics[name] {
				names = append(names, name)
			}
		}
		return nil
	})
	return names
}

func TestRules(t *testing.T) {
	t.Parallel()
	metrics := registered(t)
	path := filepath.Join(root, "deploy/prometheus/rules.yml")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var groups struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr         string
				For                 model.Duration
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.UnmarshalStrict(content, &groups))
	n := 0
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Alert)
			require.Empty(t, unknown(t, rule.Expr, metrics), rule.Alert)
			require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["todo"], rule.Alert)
			n++
		}
	}
	require.GreaterOrEqual(t, n, 8)
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	metrics := registered(t)
	paths, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		var board struct {
			UID, Title string
			Panels     []struct {
				ID         int
				Title      string
				Type       string
				Datasource struct{ UID string }
				Targets    []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(content, &board), path)
		require.NotEmpty(t, board.UID)
		var ids []int
		for _, panel := range board.Panels {
			ids = append(ids, panel.ID)
			require.Equal(t, "prometheus", panel.Datasource.UID, panel.Title)
			require.NotEmpty(t, panel.Targets, panel.Title)
			for _, target := range panel.Targets {
				require.Empty(t, unknown(t, target.Expr, metrics), panel.Title)
			}
		}
		slices.Sort(ids)
		require.Equal(t, len(ids), len(slices.Compact(ids)), "panels have ids of their own")
		require.GreaterOrEqual(t, len(ids), 8)
	}
}

// The tests above can see: a metric that nobody has is named.
func TestUnknownMetrics(t *testing.T) {
	t.Parallel()
	metrics := registered(t)
	require.Empty(t, unknown(t, `sum(rate(consumer_dead_letters_total[$__rate_interval])) / sum(outbox_waiting)`, metrics))
	require.Equal(t, []string{"consumer_dead_letter_total"}, unknown(t, `rate(consumer_dead_letter_total[5m])`, metrics))
	require.Equal(t, []string{"saga_duration_seconds"}, unknown(t, `histogram_quantile(0.9, saga_duration_seconds)`, metrics), "a histogram is its buckets")
	require.Equal(t, []string{"nothing"}, unknown(t, `{__name__="nothing"} > 1`, metrics))
}
