package main

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The parts of objects that rules are about.
type (
	object struct {
		Kind     string
		Metadata struct {
			Name, Namespace string
			Labels          map[string]string
		}
		Data map[string]string
		Spec json.RawMessage
	}
	job struct {
		BackoffLimit, ActiveDeadlineSeconds, TTLSecondsAfterFinished *int
		Template                                                     struct{ Spec pod }
	}
	labelSelector struct{ MatchLabels map[string]string }
	deployment    struct {
		Replicas *int
		Selector labelSelector
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
	pod struct {
		ServiceAccountName            string
		RestartPolicy                 string
		AutomountServiceAccountToken  *bool
		TerminationGracePeriodSeconds int
		SecurityContext               struct {
			RunAsNonRoot          bool
			RunAsUser, RunAsGroup int
			SeccompProfile        struct{ Type string }
		}
		Containers []container
	}
	container struct {
		Image string
		Args  []string
		Ports []struct {
			Name          string
			ContainerPort int
		}
		Env []struct {
			Name      string
			ValueFrom struct{ FieldRef struct{ FieldPath string } }
		}
		EnvFrom []struct {
			ConfigMapRef, SecretRef struct{ Name string }
		}
		LivenessProbe, ReadinessProbe struct {
			HTTPGet struct {
				Path string
				Port any
			}
		}
		Lifecycle struct {
			PreStop struct{ Sleep struct{ Seconds int } }
		}
		Resources struct {
			Requests, Limits map[string]string
		}
		SecurityContext struct {
			AllowPrivilegeEscalation *bool
			ReadOnlyRootFilesystem   bool
			Capabilities             struct{ Drop []string }
		}
	}
)

// rules are one service's objects while they are looked through.
type rules struct {
	service string
	by      map[string][]object
	wrong   []string
}

func (r *rules) must(holds bool, format string, args ...any) {
	if !holds {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// one decodes the spec of the only object of a kind, and returns it.
func (r *rules) one(kind string, spec any) object {
	if n := len(r.by[kind]); n != 1 {
		r.must(false, "there must be one %s, not %d", kind, n)
		return object{}
	}
	if spec != nil {
		if err := json.Unmarshal(r.by[kind][0].Spec, spec); err != nil {
			r.must(false, "%s: %s", kind, err)
		}
	}
	return r.by[kind][0]
}

// brokenRules names what no API server would mind, and what would fail in a cluster all the same.
func brokenRules(service string, objects []map[string]any) []string {
	r := &rules{service: service, by: map[string][]object{}}
	text, err := json.Marshal(objects)
	var all []object
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return []string{err.Error()}
	}
	for _, o := range all {
		r.by[o.Kind] = append(r.by[o.Kind], o)
	}
	if service == cluster {
		r.cluster(all)
		return r.wrong
	}
	name := "orderflow-" + service
	for _, o := range all {
		// ConfigMaps have a hash behind their name.
		r.must(o.Metadata.Name == name || strings.HasPrefix(o.Metadata.Name, name+"-") && o.Kind == "ConfigMap",
			"%s is named %s, must be %s: another service's objects would be changed", o.Kind, o.Metadata.Name, name)
		r.must(o.Metadata.Namespace != "" && o.Metadata.Namespace == all[0].Metadata.Namespace, "%s has no namespace, or another one", o.Kind)
		r.must(o.Metadata.Labels["app.kubernetes.io/name"] == service && o.Metadata.Labels["app.kubernetes.io/part-of"] == "orderflow",
			"%s lacks the labels app.kubernetes.io/name and part-of", o.Kind)
	}
	var d deployment
	deployed := r.one("Deployment", &d)
	settings := r.one("ConfigMap", nil)
	if len(d.Template.Spec.Containers) != 1 {
		return append(r.wrong, "a pod has one container")
	}
	r.pod(d.Template.Spec, settings)
	r.selectors(d)
	r.scaling(d, deployed)
	return r.wrong
}

// pod: what a container needs to start, to be watched and to stop, and that it may do nothing else.
func (r *rules) pod(p pod, settings object) {
	c := p.Containers[0]
	r.must(versionOf(c.Image, r.service), "image %s must be %s's, with a version", c.Image, r.service)
	r.must(p.ServiceAccountName == r.one("ServiceAccount", nil).Metadata.Name, "the pod has the service account %s", p.ServiceAccountName)
	secret := r.environment(c, settings)
	r.must(secret == "orderflow-"+r.service, "the environment is of Secret %q, must be of orderflow-%s, with DATABASE_URL", secret, r.service)
	instance := ""
	for _, e := range c.Env {
		if e.Name == "INSTANCE_ID" {
			instance = e.ValueFrom.FieldRef.FieldPath
		}
	}
	r.must(instance == "metadata.name", "INSTANCE_ID must be the pod's name (metadata.name): two replicas of one name throw each other out")

	r.must(c.LivenessProbe.HTTPGet.Path == "/livez", "the liveness probe asks %q, must be /livez", c.LivenessProbe.HTTPGet.Path)
	r.must(c.ReadinessProbe.HTTPGet.Path == "/readyz", "the readiness probe asks %q, must be /readyz", c.ReadinessProbe.HTTPGet.Path)
	r.must(len(c.Ports) == 1 && settings.Data["HTTP_ADDR"] == ":"+strconv.Itoa(c.Ports[0].ContainerPort), "HTTP_ADDR is %q, must be the container's port", settings.Data["HTTP_ADDR"])
	for _, probe := range []any{c.LivenessProbe.HTTPGet.Port, c.ReadinessProbe.HTTPGet.Port} {
		r.must(len(c.Ports) == 1 && probe == c.Ports[0].Name, "a probe asks port %v, must be the container's", probe)
	}
	stop, err := time.ParseDuration(settings.Data["SHUTDOWN_TIMEOUT"])
	sleep := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	r.must(sleep >= 3*time.Second, "preStop sleeps for %s, must be 3 s or more: proxies still send requests meanwhile", sleep)
	r.must(err == nil && time.Duration(p.TerminationGracePeriodSeconds)*time.Second > sleep+stop,
		"the grace period of %d s must be longer than preStop (%s) and SHUTDOWN_TIMEOUT (%s) together", p.TerminationGracePeriodSeconds, sleep, stop)
	r.restricted(p)
}

// environment: the settings are the ConfigMap's, and nothing in there is secret. It returns whose Secret is read beside it.
func (r *rules) environment(c container, settings object) (secret string) {
	configMap := ""
	for _, from := range c.EnvFrom {
		configMap, secret = configMap+from.ConfigMapRef.Name, secret+from.SecretRef.Name
	}
	r.must(configMap == settings.Metadata.Name, "the environment is of ConfigMap %q, must be of %s", configMap, settings.Metadata.Name)
	r.must(settings.Data["KAFKA_BROKERS"] != "", "KAFKA_BROKERS is not set")
	for name := range settings.Data {
		r.must(name != "DATABASE_URL" && !strings.Contains(name, "TOKEN") && !strings.Contains(name, "PASSWORD"), "%s is secret, and in a ConfigMap", name)
	}
	return secret
}

// restricted: what the namespace's Pod Security asks of a pod, and what it may use.
func (r *rules) restricted(p pod) {
	c := p.Containers[0]
	r.must(p.AutomountServiceAccountToken != nil && !*p.AutomountServiceAccountToken, "the pod must have no token of Kubernetes'")
	r.must(c.Resources.Requests["cpu"] != "" && c.Resources.Requests["memory"] != "" && c.Resources.Limits["memory"] != "", "resources must have requests, and a limit of memory")
	s, own := p.SecurityContext, c.SecurityContext
	r.must(s.RunAsNonRoot && s.RunAsUser > 0 && s.RunAsGroup > 0 && s.SeccompProfile.Type == "RuntimeDefault" &&
		own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation && own.ReadOnlyRootFilesystem && slices.Equal(own.Capabilities.Drop, []string{"ALL"}),
		"the pod must keep to the restricted Pod Security Standard, on a read-only root")
}

// reference is [registry[:port]/]path[:tag][@digest], https://pkg.go.dev/github.com/distribution/reference.
var reference = regexp.MustCompile(`^([a-zA-Z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+)(?::([\w][\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)

// versionOf tells whether an image is that of a name, and always the same: a tag can be moved, but only latest is meant to be.
func versionOf(image, name string) bool {
	part := reference.FindStringSubmatch(image)
	if part == nil {
		return false
	}
	repository, tag, digest := part[1], part[2], part[3]
	return path.Base(repository) == name && (digest != "" || tag != "" && tag != "latest")
}

// selectors: whoever chooses pods chooses this service's, all of them and no others.
func (r *rules) selectors(d deployment) {
	want := map[string]string{"app.kubernetes.io/name": r.service}
	same := func(kind string, got map[string]string) {
		r.must(len(got) == 1 && got["app.kubernetes.io/name"] == r.service, "%s selects pods by %v, must be %v", kind, got, want)
	}
	same("Deployment", d.Selector.MatchLabels)
	r.must(d.Template.Metadata.Labels["app.kubernetes.io/name"] == r.service, "the pod lacks the label app.kubernetes.io/name")
	var service struct {
		Selector map[string]string
		Ports    []struct{ TargetPort any }
	}
	r.one("Service", &service)
	same("Service", service.Selector)
	for _, p := range service.Ports {
		r.must(p.TargetPort == d.Template.Spec.Containers[0].Ports[0].Name, "Service leads to port %v, which the container does not have", p.TargetPort)
	}
	var budget struct {
		Selector                     labelSelector
		MinAvailable, MaxUnavailable any
	}
	r.one("PodDisruptionBudget", &budget)
	same("PodDisruptionBudget", budget.Selector.MatchLabels)
	r.must(budget.MinAvailable == nil && budget.MaxUnavailable == float64(1), "PodDisruptionBudget must let one pod go at a time")
	var policy struct {
		PodSelector labelSelector
		PolicyTypes []string
	}
	r.one("NetworkPolicy", &policy)
	same("NetworkPolicy", policy.PodSelector.MatchLabels)
	r.must(len(policy.PolicyTypes) == 2, "NetworkPolicy must be about both ways")
}

// scaling: one owner of the number of replicas.
func (r *rules) scaling(d deployment, deployed object) {
	r.must(d.Replicas == nil, "Deployment has replicas, which are its autoscaler's: an apply would set them back")
	var scaled struct {
		ScaleTargetRef                   struct{ Name string }
		MinReplicaCount, MaxReplicaCount int
		Triggers                         []struct {
			Type     string
			Metadata map[string]string
		}
	}
	r.one("ScaledObject", &scaled)
	r.must(len(r.by["HorizontalPodAutoscaler"]) == 0, "a HorizontalPodAutoscaler beside the ScaledObject, which makes one itself")
	r.must(scaled.ScaleTargetRef.Name == deployed.Metadata.Name, "ScaledObject scales %q, must be %s", scaled.ScaleTargetRef.Name, deployed.Metadata.Name)
	r.must(scaled.MinReplicaCount >= 2 && scaled.MaxReplicaCount >= scaled.MinReplicaCount, "ScaledObject must keep two replicas: one is restarted while the other serves")
	groups := []string{}
	for _, t := range scaled.Triggers {
		if t.Type == "kafka" {
			groups = append(groups, t.Metadata["consumerGroup"])
		}
	}
	r.must(slices.Equal(groups, []string{r.service}), "ScaledObject looks at the lag of %v, must be of the group %s", groups, r.service)
}

// cluster is the overlay that makes what an environment's services need before them.
const cluster = "cluster"

// cluster: a namespace that holds pods to the restricted standard, and a Job that makes the topics and comes to an end.
func (r *rules) cluster(all []object) {
	const name = "orderflow-topics"
	namespace := r.one("Namespace", nil).Metadata
	r.must(namespace.Labels["pod-security.kubernetes.io/enforce"] == "restricted", "the namespace must enforce the restricted Pod Security Standard")
	for _, o := range all {
		r.must(o.Kind == "Namespace" || o.Metadata.Namespace == namespace.Name, "%s is in the namespace %q, must be in %s", o.Kind, o.Metadata.Namespace, namespace.Name)
	}
	var j job
	r.must(r.one("Job", &j).Metadata.Name == name, "the Job must be %s, for which `make cluster` waits", name)
	if len(j.Template.Spec.Containers) != 1 {
		r.must(false, "a pod has one container")
		return
	}
	c := j.Template.Spec.Containers[0]
	r.must(versionOf(c.Image, "orderctl"), "image %s must be orderctl's, with a version", c.Image)
	r.must(len(c.Args) > 1 && c.Args[0] == "topics" && c.Args[1] == "apply", "the Job runs orderctl %s, must be topics apply", strings.Join(c.Args, " "))
	r.must(j.BackoffLimit != nil && j.ActiveDeadlineSeconds != nil && j.TTLSecondsAfterFinished != nil && j.Template.Spec.RestartPolicy == "Never",
		"the Job must be bounded, by backoffLimit, activeDeadlineSeconds, ttlSecondsAfterFinished and restartPolicy Never")
	r.environment(c, r.one("ConfigMap", nil))
	r.restricted(j.Template.Spec)
	var policy struct{ PodSelector labelSelector }
	r.one("NetworkPolicy", &policy)
	r.must(policy.PodSelector.MatchLabels["app.kubernetes.io/name"] == "topics", "NetworkPolicy selects pods by %v", policy.PodSelector.MatchLabels)
}
