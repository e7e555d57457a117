package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	folder     = "../../../deploy/kubernetes"
	production = "overlays/production/payment/kustomization.yaml"
)

// Whatever a cluster would refuse, or would take and fail with, is refused here, by name, in the overlays that have it.
func TestBadManifestsAreRefused(t *testing.T) {
	t.Parallel()
	const deployment, scaled, payment = "base/deployment.yaml", "base/scaledobject.yaml", "services/payment/kustomization.yaml"
	for name, c := range map[string]struct{ file, old, new, want string }{
		// What the API server refuses.
		"an unknown field":      {deployment, "revisionHistoryLimit: 5", "revisionHistoryLimits: 5", "additional properties 'revisionHistoryLimits' not allowed"},
		"a wrong type":          {deployment, "periodSeconds: 10", `periodSeconds: ten`, "got string, want integer"},
		"a missing field":       {deployment, "- name: service", "- tty: false", "missing property 'name'"},
		"no quantity":           {deployment, "memory: 256Mi", "memory: 256 MB", "does not match pattern"},
		"an unknown kind":       {"base/service.yaml", "kind: Service", "kind: Servce", "no such kind"},
		"a version that is old": {"base/poddisruptionbudget.yaml", "policy/v1", "policy/v1beta1", "no such kind"},
		"a name that is none":   {payment, "nameSuffix: -payment", "nameSuffix: _payment", "metadata.name must be letters"},
		"an unknown KEDA field": {scaled, "pollingInterval: 15", "pollInterval: 15", "additional properties 'pollInterval' not allowed"},
		"a KEDA trigger's type": {scaled, `lagThreshold: "500"`, "lagThreshold: 500", "want string"},
		// What no API server minds.
		"replicas beside an autoscaler":     {deployment, "minReadySeconds: 5", "replicas: 2", "Deployment has replicas"},
		"a shared INSTANCE_ID":              {deployment, "fieldPath: metadata.name", "fieldPath: metadata.namespace", "INSTANCE_ID must be the pod's name"},
		"the wrong probe":                   {deployment, "path: /livez", "path: /readyz", "the liveness probe asks"},
		"a port that is not served":         {"base/kustomization.yaml", "HTTP_ADDR=:8080", "HTTP_ADDR=:8081", "HTTP_ADDR is"},
		"no time to stop":                   {deployment, "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 30", "the grace period of 30 s"},
		"no time for proxies to hear of it": {deployment, "seconds: 5", "seconds: 0", "preStop sleeps for 0s"},
		"a root that can be written":        {deployment, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "restricted Pod Security"},
		"a service that finds no pods":      {"base/service.yaml", "selector: {}", "selector: {tier: api}", "Service selects pods by"},
		"a budget for everybody":            {payment, "includeSelectors: true", "includeTemplates: true", "selects pods by map[]"},
		"another's group":                   {payment, "value: payment", "value: order", "must be of the group payment"},
		"a version that moves":              {production, "newTag: 0.1.0", "newTag: latest", "with a version"},
		"a secret in the open":              {"environments/production/kustomization.yaml", "- REDIS_URL=", "- DATABASE_URL=", "DATABASE_URL is secret"},
		"nothing to scale":                  {"base/namereference.yaml", "spec/scaleTargetRef/name", "spec/scaleTargetRef/kind", "ScaledObject scales"},
		"a namespace for any pod":           {"cluster/namespace.yaml", "enforce: restricted", "enforce: baseline", "the namespace must enforce"},
		"no namespace":                      {"cluster/kustomization.yaml", "  - namespace.yaml\n", "", "there must be one Namespace, not 0"},
		"a Job that the namespace refuses":  {"cluster/topics.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "restricted Pod Security"},
		"a Job that never ends":             {"cluster/topics.yaml", "  activeDeadlineSeconds: 300\n", "", "the Job must be bounded"},
		"a Job that stays":                  {"cluster/topics.yaml", "  ttlSecondsAfterFinished: 3600\n", "", "the Job must be bounded"},
		"a Job that only looks":             {"cluster/topics.yaml", "[topics, apply,", "[topics, plan,", "must be topics apply"},
		"topics of a version that moves":    {"overlays/production/cluster/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "must be orderctl's, with a version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t)
			change(t, dir, c.file, c.old, c.new)
			var out bytes.Buffer
			require.ErrorContains(t, run("check", dir, &out), "mistakes")
			require.Contains(t, out.String(), "overlays/production/")
			require.Contains(t, out.String(), c.want)
		})
	}
}

// A version is a tag or a digest, of whatever registry.
func TestVersionOf(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for _, image := range []string{
		"orderflow/payment:1.4", "registry.example/orderflow/payment:1.4", "registry:5000/orderflow/payment:1.4", "registry:5000/payment:1.4",
		"orderflow/payment" + digest, "registry:5000/orderflow/payment" + digest, "registry:5000/orderflow/payment:1.4" + digest,
		"orderflow/payment:latest" + digest,
	} {
		require.True(t, versionOf(image, "payment"), image)
	}
	for _, image := range []string{
		"orderflow/payment", "orderflow/payment:latest", "orderflow/payment:", "registry:5000/orderflow/payment", "orderflow/order:1.4",
		"registry:5000/payment/order:1.4", "orderflow/prepayment:1.4", "orderflow/payment@sha256:0a", "orderflow/payment:1.4@", "",
	} {
		require.False(t, versionOf(image, "payment"), image)
	}
}

// What kustomize makes of a registry with a port and of a digest is taken.
func TestDigestsAndPortsAreTaken(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"newName: registry:5000/orderflow/payment\n    newTag: 0.1.0", "digest: sha256:" + strings.Repeat("0a", 32)} {
		dir := copied(t)
		change(t, dir, production, "newTag: 0.1.0", version)
		var out bytes.Buffer
		require.NoError(t, run("check", dir, &out), out.String())
	}
}

// copied is one service's overlay and its environment's cluster, and what they are made of.
func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"base", "cluster", "services/payment", "environments/production", "overlays/production/payment", "overlays/production/cluster"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(folder, part))))
	}
	return dir
}

// change replaces what stands once in a file.
func change(t *testing.T, dir, file, before, after string) {
	t.Helper()
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), before), "%s has %q", file, before)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), before, after, 1)), 0o600))
}

func TestTheManifestsAreGood(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run("check", folder, &out), out.String())
	require.Contains(t, out.String(), "14 overlays")
	require.ErrorContains(t, run("check", t.TempDir(), &out), "no overlays")
	dir := copied(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "overlays/production/cluster")))
	require.ErrorContains(t, run("check", dir, &out), "1 mistakes")
	require.Contains(t, out.String(), "the environment has no overlay cluster")
	require.ErrorContains(t, run("render", t.TempDir(), &out), "unable to find one of")
}
