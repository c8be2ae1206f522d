// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/itechsmart/operator/controllers"
)

const tokenReviewerFlag = "token-reviewer-role"

// version is set when the image is built.
var version = "dev"

// options are the manager's flags.
type options struct {
	controllers    controllers.Options
	metricsAddress string
	healthAddress  string
	pprofAddress   string
	webhooks       controllers.WebhookOptions
	leaderElect    bool
	level          slog.Level
	text           bool
	done           bool // --version or --help was answered
}

func parse(args []string) (*options, error) {
	// These come from the Pod itself; outside of a cluster there are none.
	o := &options{controllers: controllers.Options{
		BackendImages:    map[string]string{},
		ManagerNamespace: os.Getenv("POD_NAMESPACE"), ManagerServiceAccount: os.Getenv("POD_SERVICE_ACCOUNT"),
	}}
	o.controllers.Images.Overrides = map[string]string{}
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(os.Stdout)
	o.processFlags(flags)
	o.controllerFlags(flags)
	o.imageFlags(flags)
	showVersion := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		o.done = true
		return o, nil
	case err != nil:
		return nil, err
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q; see --help", flags.Arg(0))
	case *showVersion:
		fmt.Println("manager", version)
		o.done = true
	}
	if err := o.complete(flags); err != nil {
		return nil, err
	}
	return o, nil
}

// processFlags adds the flags of the process itself.
func (o *options) processFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "`address` of /metrics; 0 turns it off")
	flags.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "`address` of /healthz and /readyz")
	flags.StringVar(&o.pprofAddress, "pprof-bind-address", "0", "`address` of /debug/pprof; 0 turns it off")
	flags.StringVar(&o.webhooks.Name, "webhook-name", "", "`name` of the ValidatingWebhookConfiguration by which the API server asks this manager, and of its Service and Secret; none by default")
	flags.IntVar(&o.webhooks.Port, "webhook-port", 9443, "`port` that answers the API server")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "enable leader election")
	flags.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` to log: DEBUG, INFO, WARN or ERROR")
	flags.BoolVar(&o.text, "log-text", false, "log text instead of JSON")
	flags.Func("kubeconfig", "`file` to reach the API server by; a Pod uses its ServiceAccount", func(path string) error {
		return os.Setenv("KUBECONFIG", path)
	})
}

// controllerFlags adds the flags of the controllers.
func (o *options) controllerFlags(flags *flag.FlagSet) {
	flags.Func("namespaces", "comma-separated `namespaces` to watch; all by default", func(text string) error {
		for _, namespace := range strings.Split(text, ",") {
			if namespace = strings.TrimSpace(namespace); namespace != "" {
				o.controllers.Namespaces = append(o.controllers.Namespaces, namespace)
			}
		}
		return nil
	})
	flags.StringVar(&o.controllers.ServiceRolePrefix, "service-role-prefix", "itechsmart",
		"`prefix` of the ClusterRoles of product services: <prefix>-<product>-service")
	flags.StringVar(&o.controllers.TokenReviewerRole, tokenReviewerFlag, "itechsmart-token-reviewer",
		"`ClusterRole` that product services are bound to, so that they can have tokens reviewed; with --namespaces none, unless it is given")
	flags.IntVar(&o.controllers.Concurrency, "max-concurrent-reconciles", 10, "resources of one kind that are reconciled at once")
	flags.DurationVar(&o.controllers.DriftInterval, "drift-interval", 5*time.Minute, "how often external objects, such as topics and tables, are compared with their specification")
	flags.BoolVar(&o.controllers.AllowPrivateAddresses, "allow-private-addresses", false,
		"let the URLs in resources name loopback, link-local and private addresses, such as Services of the cluster")
}

// imageFlags adds the flags for the images that the controllers run.
func (o *options) imageFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.controllers.Images.Registry, "image-registry", "docker.io/itechsmart", "`registry` of the operator's programs: the image of each is <registry>/<program>:<tag>")
	flags.StringVar(&o.controllers.Images.Tag, "image-tag", version, "`tag` of the operator's programs")
	programs := controllers.Programs()
	flags.Func("image", "`program=image`, the whole image of one of the operator's programs; repeatable. The programs: "+strings.Join(programs, ", "),
		imagesInto(o.controllers.Images.Overrides, programs))
	flags.Func("backend-image", "`name=image` of a managed backend, such as kafka=docker.io/apache/kafka:4.1.0; repeatable", imagesInto(o.controllers.BackendImages, nil))
}

// complete sets what follows from other flags, and refuses values that cannot work.
func (o *options) complete(flags *flag.FlagSet) error {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == tokenReviewerFlag })
	if len(o.controllers.Namespaces) > 0 && !given {
		// Permissions in some namespaces allow no binding for the whole cluster.
		o.controllers.TokenReviewerRole = ""
	}
	images := &o.controllers.Images
	if images.Registry = strings.TrimRight(images.Registry, "/"); images.Registry == "" || images.Tag == "" {
		return errors.New("--image-registry and --image-tag must not be empty")
	}
	if o.controllers.ServiceRolePrefix == "" {
		return errors.New("--service-role-prefix must not be empty")
	}
	if o.controllers.Concurrency < 1 || o.controllers.DriftInterval < time.Second {
		return errors.New("--max-concurrent-reconciles must be at least 1 and --drift-interval at least 1s")
	}
	if o.webhooks.Name != "" {
		if o.webhooks.Namespace = o.controllers.ManagerNamespace; o.webhooks.Namespace == "" {
			return errors.New("--webhook-name needs POD_NAMESPACE, the namespace of its Secret")
		}
		o.webhooks.Hosts = []string{o.webhooks.Name + "." + o.webhooks.Namespace + ".svc"}
		o.controllers.Webhooks = controllers.NewWebhooks(o.webhooks)
	}
	return nil
}

// imagesInto parses name=image into images. Other names than the known ones are refused; nil: any name is known.
func imagesInto(images map[string]string, known []string) func(string) error {
	return func(text string) error {
		name, image, ok := strings.Cut(text, "=")
		if !ok || name == "" || image == "" {
			return errors.New("want name=image")
		}
		if known != nil && !slices.Contains(known, name) {
			return fmt.Errorf("there is no program %q; the programs are %s", name, strings.Join(known, ", "))
		}
		images[name] = image
		return nil
	}
}

func (o *options) logger() logr.Logger {
	handlerOptions := &slog.HandlerOptions{Level: o.level}
	if o.text {
		return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, handlerOptions))
	}
	return logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, handlerOptions))
}

func (o *options) managerOptions(scheme *runtime.Scheme, leases *rest.Config) manager.Options {
	grace := 20 * time.Second
	options := manager.Options{
		Scheme: scheme, Cache: controllers.CacheOptions(o.controllers.Namespaces),
		Metrics:                metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.pprofAddress,
		LeaderElection: o.leaderElect, LeaderElectionID: "manager.itechsmart.dev", LeaderElectionConfig: leases,
		LeaderElectionReleaseOnCancel: true, GracefulShutdownTimeout: &grace,
	}
	if hooks := o.controllers.Webhooks; hooks != nil {
		hooks.Configure(&options)
	}
	return options
}

// synced is ready when the caches are: a standby can take over at once.
func synced(mgr manager.Manager) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), 300*time.Millisecond)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("caches are not synced")
		}
		return nil
	}
}
