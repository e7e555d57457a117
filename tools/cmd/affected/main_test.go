package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shop is a repository like this one: two services, contracts that are embedded, and a package that only one imports.
var shop = map[string]string{
	"services/order/go.mod":                "module shop/order\ngo 1.26.0\nrequire (\n shop/pkg v0.0.0\n shop/api v0.0.0\n)\nreplace (\n shop/pkg => ../../pkg\n shop/api => ../../api\n)\n",
	"services/order/cmd/order/main.go":     "package main\nimport (\n _ \"shop/pkg/database\"\n _ \"shop/pkg/saga\"\n _ \"shop/api\"\n)\nfunc main() {}\n",
	"services/payment/go.mod":              "module shop/payment\ngo 1.26.0\nrequire shop/pkg v0.0.0\nreplace shop/pkg => ../../pkg\n",
	"services/payment/cmd/payment/main.go": "package main\nimport _ \"shop/pkg/database\"\nfunc main() {}\n",
	"pkg/go.mod":                           "module shop/pkg\ngo 1.26.0\n",
	"pkg/database/database.go":             "package database\nimport _ \"shop/pkg/fault\"\n",
	"pkg/database/database_test.go":        "package database\n",
	"pkg/fault/fault.go":                   "package fault\n",
	"pkg/fault/doc.md":                     "words\n",
	"pkg/saga/saga.go":                     "package saga\n",
	"pkg/unused/unused.go":                 "package unused\n",
	"api/go.mod":                           "module shop/api\ngo 1.26.0\n",
	"api/api.go":                           "package api\nimport \"embed\"\n//go:embed schemas/*.json topics\nvar Files embed.FS\n",
	"api/schemas/order.json":               "{}\n",
	"api/schemas/payment.json":             "{}\n",
	"api/schemas/notes.txt":                "words\n",
	"api/topics/deep/topics.yaml":          "{}\n",
	"deploy/Dockerfile":                    "FROM scratch\n",
	"README.md":                            "words\n",

	"deploy/kubernetes/services/payment/kustomization.yaml": "{}\n",
}

func repository(t *testing.T) (string, func(args ...string)) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range shop {
		write(t, dir, name, text)
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "a shop")
	return dir, git
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func affected(t *testing.T, dir string) []string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(dir, "main", false, &out))
	return strings.Fields(out.String())
}

func TestAffected(t *testing.T) {
	t.Parallel()
	dir, git := repository(t)
	require.Empty(t, affected(t, dir))
	const more = "\n// more\n"
	for name, want := range map[string][]string{
		"services/payment/cmd/payment/main.go": {"payment"},
		"services/order/internal/new/new.go":   nil, // nobody imports it yet
		"pkg/fault/fault.go":                   {"order", "payment"},
		"pkg/fault/new.go":                     {"order", "payment"},
		"pkg/saga/saga.go":                     {"order"},
		"pkg/unused/unused.go":                 nil,
		"pkg/database/database_test.go":        nil,
		"pkg/fault/doc.md":                     nil,
		"api/schemas/payment.json":             {"order"},
		"api/schemas/notes.txt":                nil,
		"api/topics/deep/topics.yaml":          {"order"},
		"pkg/go.mod":                           {"order", "payment"},
		"services/order/go.sum":                {"order"},
		"deploy/Dockerfile":                    {"order", "payment"},
		"README.md":                            nil,

		"deploy/kubernetes/services/payment/kustomization.yaml": {"payment"},
	} {
		text, known := shop[name]
		if strings.HasSuffix(name, "new.go") {
			text = "package " + filepath.Base(filepath.Dir(name)) + "\n"
		}
		if filepath.Base(name) != "go.sum" {
			text += more
		}
		write(t, dir, name, text)
		if len(want) == 0 {
			require.Empty(t, affected(t, dir), name)
		} else {
			require.Equal(t, want, affected(t, dir), name)
		}
		if known {
			write(t, dir, name, shop[name])
		} else {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
	}

	// What is gone counts, and so does what was committed since.
	require.NoError(t, os.Remove(filepath.Join(dir, "api/schemas/payment.json")))
	require.Equal(t, []string{"order"}, affected(t, dir))
	git("checkout", "-q", "-b", "topic")
	write(t, dir, "services/payment/cmd/payment/main.go", shop["services/payment/cmd/payment/main.go"]+more)
	git("add", "-A")
	git("commit", "-q", "-m", "a change")
	require.Equal(t, []string{"order", "payment"}, affected(t, dir))
	var out bytes.Buffer
	require.NoError(t, run(dir, "main", true, &out))
	require.Equal(t, "order: api/schemas/payment.json\npayment: services/payment/cmd/payment/main.go\n", out.String())
	require.ErrorContains(t, run(dir, "nowhere", false, &out), "git merge-base")
}

// A service is deployed anew for its own manifests and for those of all.
func TestManifests(t *testing.T) {
	t.Parallel()
	dir, _ := repository(t)
	s, err := sourcesOf(dir, "payment")
	require.NoError(t, err)
	for file, want := range map[string]bool{
		"services/payment/kustomization.yaml": true, "services/order/kustomization.yaml": false,
		"overlays/production/payment/kustomization.yaml": true, "overlays/production/order/kustomization.yaml": false,
		"overlays/development/payment/new.yaml": true, "overlays/production/cluster/kustomization.yaml": false, "cluster/namespace.yaml": false,
		"base/service.yaml": true, "environments/staging/kustomization.yaml": true,
	} {
		require.Equal(t, want, s.have("deploy/kubernetes/"+file), file)
	}
}
