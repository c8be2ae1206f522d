// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=patch;update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings;clusterrolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;podmonitors,verbs=get;list;watch;create;patch;delete
//
// What the services are given, the manager must hold itself: the API server lets nobody grant more.
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets;accesspolicies,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflows;workflowruns,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflows/status;workflowruns/status,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=dataflow.itechsmart.dev,resources=pipelines,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=pods;pods/log;events,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=get;list;watch
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create

// productTypes is the one list of product services: another one adds a line here, and its field to spec.products.
var productTypes = []*productType{
	vaultProduct,
	workflowProduct,
}

// productType is all that the controller knows of one product service.
type productType struct {
	// name as in spec.products, in labels and in the service's configuration.
	name string
	// title is for messages.
	title string
	// pick finds the product in a specification; nil when it has none.
	pick func(*v1alpha1.Products) *v1alpha1.ProductSpec
	// image is the default one; the manager's --product-image replaces it.
	image string
	// sizing is the container's default resources.
	sizing sizing
	// rules are what the service may do in its namespace, beside nothing.
	rules []rbacv1.PolicyRule
	// references names the Secrets of the namespace that this product's specification refers to; may be nil.
	references func(*v1alpha1.Platform) []string
	// configure gathers what only this product is told, and returns what adds it to the configuration; may be nil. It is
	// called before there is a schema.
	configure func(context.Context, *productRun) (func(*config.Service), error)
	// keeps names the Secrets that only this product makes once; may be nil.
	keeps func(*v1alpha1.Platform) []string
	// queue names the product's queue of tasks in RabbitMQ, without which it cannot be; nil: it needs none.
	queue func(*v1alpha1.Platform) string
	// objects tells that the product keeps what is large in object storage, where the Platform has it.
	objects bool
	// worker runs beside the service; nil: none does.
	worker *workerType
	// bindingsDir is where service and worker have the Secret of ProductBindingsName, which another controller writes and
	// which changes while they run; empty: there is none.
	bindingsDir string
	// calls tells that the service connects to servers that its tenants name.
	calls bool
}

// components are the service and its worker, as labels and names have them.
func (t *productType) components() []string {
	if t.worker == nil {
		return []string{t.name}
	}
	return []string{t.name, t.worker.name}
}

// productRun is one product in one pass.
type productRun struct {
	*pass
	kind *productType
	spec *v1alpha1.ProductSpec
	row  v1alpha1.ProductStatus

	// redis, rabbitmq and objects are empty when the product has none.
	postgres, redis, rabbitmq, objects backend.Binding
	live, liveWorker                   *appsv1.Deployment // as they are; nil: none
	serving                            *config.Service    // what the live Deployment is told; nil: none
	told                               func(*config.Service)
	own, identity                      tenant
	config                             *config.Service // what it is told from now on; nil: not rendered
	children                           *service
	worker                             *worker // nil: not rendered, or there is none
}

// products brings every product service to where all of its replicas serve the current specification. One that fails does
// not keep the others from going on.
func (p *pass) products(ctx context.Context) error {
	p.productRows = []v1alpha1.ProductStatus{}
	for _, kind := range productTypes {
		spec := kind.pick(&p.platform.Spec.Products)
		if spec == nil {
			continue
		}
		r := &productRun{pass: p, kind: kind, spec: spec}
		r.row = v1alpha1.ProductStatus{Name: kind.name, URL: p.platform.ProductURL(kind.name)}
		if err := r.run(ctx); err != nil {
			_, r.row.Message = reconcile.Classify(err)
			r.row.Ready = false
			p.failures = append(p.failures, failure{backend: kind.name, err: err})
		}
		p.productRows = append(p.productRows, r.row)
		p.runs = append(p.runs, r)
	}
	return p.publishKeys(ctx)
}

// run is the way of one product from its specification to Ready.
func (r *productRun) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		r.observe, r.backends, r.prepare, r.databases, r.queue, r.render, r.renderWorker, r.apply, r.rolledOut,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// observe reads the Deployments as they are, and what the service is told.
func (r *productRun) observe(ctx context.Context) error {
	var err error
	if r.kind.worker != nil {
		if r.liveWorker, err = r.deployment(ctx, r.kind.worker.name); err != nil {
			return err
		}
	}
	if r.live, err = r.deployment(ctx, r.kind.name); err != nil || r.live == nil {
		return err
	}
	if was := r.platform.Status.Product(r.kind.name); was != nil {
		r.row.Version = was.Version
	}
	hash := r.live.Spec.Template.Annotations[annotationChecksum]
	r.serving, err = r.readConfig(ctx, configPrefix(r.platform.Name, r.kind.name)+hash)
	return err
}

// deployment is a component's as it is; nil: none.
func (p *pass) deployment(ctx context.Context, component string) (*appsv1.Deployment, error) {
	var live appsv1.Deployment
	name := workloadName(p.platform.Name, component)
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: name}, &live)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Deployment %s: %w", name, err)
	}
	return &live, nil
}

// backends finds what the service stores in.
func (r *productRun) backends(ctx context.Context) error {
	var err error
	if r.postgres, err = r.needed(ctx, postgresqlBackend); err != nil {
		return err
	}
	if r.kind.queue != nil {
		if r.rabbitmq, err = r.needed(ctx, rabbitmqBackend); err != nil {
			return err
		}
	}
	if r.kind.objects && r.platform.Spec.Backends.Has(v1alpha1.BackendObjectStorage) {
		if err = r.findObjects(ctx); err != nil {
			return err
		}
	}
	if r.platform.Spec.Backends.Has(v1alpha1.BackendRedis) {
		r.redis, err = r.bound(ctx, redisBackend)
	}
	return err
}

// needed is the binding of a backend that the product cannot do without. One that is not up yet is waited for only before
// the first start: a service that runs tells by itself what it lacks.
func (r *productRun) needed(ctx context.Context, kind *backendType) (backend.Binding, error) {
	if !r.platform.Spec.Backends.Has(kind.name) {
		return backend.Binding{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: %s needs %s; add %s",
			productPath(r.kind.name), r.kind.title, kind.title, backendPath(kind.name))
	}
	b, err := r.bound(ctx, kind)
	if err == nil && (b.Type == "" || r.live == nil && !r.up(kind)) {
		err = r.awaited(kind)
	}
	return b, err
}

// up tells whether the last login to a backend succeeded.
func (p *pass) up(kind *backendType) bool {
	row := rowOf(p.rows, kind.name)
	return row != nil && row.Ready
}

func (r *productRun) awaited(kind *backendType) error {
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s: %s is awaited; see its row in status.backends", productPath(r.kind.name), kind.title)
}

// bound is a backend's binding as products read it; empty: not written yet.
func (r *productRun) bound(ctx context.Context, kind *backendType) (backend.Binding, error) {
	var secret corev1.Secret
	err := r.client.Get(ctx, client.ObjectKey{Namespace: r.platform.Namespace, Name: r.platform.BindingSecretName(kind.name)}, &secret)
	if apierrors.IsNotFound(err) {
		return backend.Binding{}, nil
	}
	if err != nil {
		return backend.Binding{}, fmt.Errorf("read binding Secret: %w", err)
	}
	return backend.ParseBinding(secret.Data), nil
}

func rowOf(rows []v1alpha1.BackendStatus, name string) *v1alpha1.BackendStatus {
	for i := range rows {
		if rows[i].Name == name {
			return &rows[i]
		}
	}
	return nil
}

// image is the one of a component to run: the specification's, the manager's, or ours.
func (d *defaults) image(component, specified, ours string) string {
	if specified != "" {
		return specified
	}
	if image := d.productImages[component]; image != "" {
		return image
	}
	return ours
}

func (r *productRun) image() string { return r.defaults.image(r.kind.name, r.spec.Image, r.kind.image) }

// versionOf is an image's tag; empty when it has none.
func versionOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		return image[colon+1:]
	}
	return ""
}

// keepProducts names the children that prune leaves alone.
func (p *pass) keepProducts(ctx context.Context, keep map[string]bool) error {
	enabled := false
	for _, kind := range productTypes {
		spec := kind.pick(&p.platform.Spec.Products)
		if spec == nil {
			continue
		}
		enabled = true
		name := workloadName(p.platform.Name, kind.name)
		for _, child := range []string{"Service", "Role", "RoleBinding"} {
			keep[child+"/"+name] = true
		}
		for _, component := range kind.components() {
			for _, child := range []string{"Deployment", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} {
				keep[child+"/"+workloadName(p.platform.Name, component)] = true
			}
		}
		keep["Secret/"+p.platform.ProductBindingsName(kind.name)] = kind.bindingsDir != ""
		keep["HorizontalPodAutoscaler/"+name] = spec.Autoscaling != nil
		keep["Ingress/"+name] = spec.Ingress != nil
		keep["Secret/"+databaseName(p.platform.Name, kind.name)] = true
		if kind.keeps != nil {
			for _, secret := range kind.keeps(p.platform) {
				keep["Secret/"+secret] = true
			}
		}
		if err := p.keepConfigs(ctx, kind, keep); err != nil {
			return err
		}
	}
	for _, secret := range []string{databaseName(p.platform.Name, componentIdentity), signingKeysName(p.platform.Name), administratorName(p.platform.Name)} {
		keep["Secret/"+secret] = enabled
	}
	return nil
}

// keepConfigs keeps the configuration in use, and until every Pod uses it those before it as well: a Pod that restarts
// must find what it was started with.
func (p *pass) keepConfigs(ctx context.Context, kind *productType, keep map[string]bool) error {
	for _, r := range p.runs {
		if r.kind == kind && r.children != nil && r.row.Ready {
			keep["Secret/"+r.children.secret.Name] = true
			if r.worker != nil {
				keep["Secret/"+r.worker.secret.Name] = true
			}
			return nil
		}
	}
	for _, component := range kind.components() {
		var secrets corev1.SecretList
		err := p.client.List(ctx, &secrets, client.InNamespace(p.platform.Namespace), client.MatchingLabels(selectorLabels(p.platform.Name, component)))
		if err != nil {
			return fmt.Errorf("list configurations: %w", err)
		}
		for i := range secrets.Items {
			if strings.HasPrefix(secrets.Items[i].Name, configPrefix(p.platform.Name, component)) {
				keep["Secret/"+secrets.Items[i].Name] = true
			}
		}
	}
	return nil
}

// finishProducts puts the rows into the status.
func (p *pass) finishProducts() {
	if p.productRows == nil {
		return
	}
	ready := 0
	for i := range p.productRows {
		if p.productRows[i].Ready {
			ready++
		}
	}
	p.platform.Status.Products, p.platform.Status.ReadyProducts = nil, ""
	if len(p.productRows) > 0 {
		p.platform.Status.Products = p.productRows
		p.platform.Status.ReadyProducts = fmt.Sprintf("%d/%d", ready, len(p.productRows))
	}
}
