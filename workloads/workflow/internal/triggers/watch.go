// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

const (
	// noteEvery is the interval at which the position is stored. What came since is told again after a crash, and its runs are found by
	// their keys.
	noteEvery = time.Second
	listPage  = 500
	// watchSeconds is the timeout of a watch.
	watchSeconds = int64(300)
)

// kindWatch is the watch of one kind.
type kindWatch struct {
	*watches
	kind string
	kick chan struct{}

	triggers map[id]source
	cursors  map[id]int64 // up to which version each has had its events
	place    int64        // up to which version all have
	noted    int64
	seen     time.Time // when the place was written down, before this run of the watch
}

// errKicked: the triggers changed, and the watch begins again.
var errKicked = errors.New("the triggers changed")

// run watches as long as there are triggers.
func (k *kindWatch) run(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		k.triggers = k.of(k.kind)
		if len(k.triggers) == 0 {
			if err := k.dropCursors(ctx); err == nil {
				select {
				case <-ctx.Done():
				case <-k.kick:
				}
				continue
			}
		}
		err := k.follow(ctx, func() {
			pause = firstPause
			for of := range k.triggers {
				k.setState(of, true, "")
			}
		})
		if errNote := k.note(context.WithoutCancel(ctx)); errNote != nil {
			k.options.Log.WarnContext(ctx, "the place in Kubernetes is written down later", "kind", k.kind, "error", errNote)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, errKicked) { // the API server ends watches in order
			continue
		}
		for of := range k.triggers {
			k.setState(of, false, fmt.Sprintf("watch %s: %v", k.kind, err))
		}
		k.options.Log.WarnContext(ctx, "a trigger lost its watch", "kind", k.kind, "error", err, "again", pause)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, lastPause)
	}
}

func (k *kindWatch) resource() dynamic.ResourceInterface {
	return k.client.Resource(kinds[k.kind]).Namespace(k.options.Namespace)
}

// follow watches once: nil when the watch ended in order.
func (k *kindWatch) follow(ctx context.Context, good func()) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	timeout := watchSeconds
	w, err := k.resource().Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.FormatInt(k.place, 10), AllowWatchBookmarks: true, TimeoutSeconds: &timeout})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return k.catchUp(ctx)
	}
	if err != nil {
		return err
	}
	defer w.Stop()
	good()
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.kick:
			return errKicked
		case <-ticker.C:
			if err := k.note(ctx); err != nil {
				k.options.Log.WarnContext(ctx, "the place in Kubernetes is written down later", "kind", k.kind, "error", err)
			}
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			if e.Type == watch.Error {
				if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
					return err
				}
				return k.catchUp(ctx)
			}
			if err := k.event(ctx, e); err != nil {
				return err
			}
		}
	}
}

// begin finds the place of each trigger. What was there before a trigger was starts nothing.
func (k *kindWatch) begin(ctx context.Context) error {
	if err := k.readCursors(ctx); err != nil {
		return err
	}
	var fresh []source
	for of, s := range k.triggers {
		if _, known := k.cursors[of]; !known {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) > 0 {
		list, err := k.resource().List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		now, err := version(list)
		if err != nil {
			return err
		}
		for _, s := range fresh {
			if err := k.putCursor(ctx, s, now); err != nil {
				return err
			}
			k.cursors[s.id] = now
		}
	}
	k.place = 0
	for _, at := range k.cursors {
		if k.place == 0 || at < k.place {
			k.place = at
		}
	}
	k.noted = k.place
	return nil
}

// version returns a resource's, which API servers count up.
func version(o interface{ GetResourceVersion() string }) (int64, error) {
	n, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resource version %q is no number", o.GetResourceVersion())
	}
	return n, nil
}

func (k *kindWatch) event(ctx context.Context, e watch.Event) error {
	object, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the API server sent a %T", e.Object)
	}
	at, err := version(object)
	if err != nil {
		return err
	}
	if e.Type != watch.Bookmark {
		names := map[watch.EventType]string{watch.Added: "Added", watch.Modified: "Modified", watch.Deleted: "Deleted"}
		if err := k.tell(ctx, names[e.Type], object, at); err != nil {
			return err
		}
	}
	k.place = max(k.place, at)
	return nil
}

// tell starts the runs of one change, and returns when they are durable.
func (k *kindWatch) tell(ctx context.Context, kind string, object *unstructured.Unstructured, at int64) error {
	object.SetManagedFields(nil)
	body := map[string]any{"type": kind, "object": object.Object}
	length := size(body)
	for of, s := range k.triggers {
		if at <= k.cursors[of] || at <= k.place {
			continue
		}
		if length > s.maxPayload {
			k.options.Launcher.Reject(of.workflow, of.trigger)
			continue
		}
		// A workflow that is edited or gone ends this watch, and not only its own event.
		if _, err := k.fireUnless(ctx, of, came{body: body, key: fmt.Sprintf("%s/%d/%s", object.GetUID(), at, kind)}); err != nil {
			return err
		}
	}
	return nil
}

// fireUnless returns fire, until the triggers change.
func (k *kindWatch) fireUnless(ctx context.Context, of id, c came) (bool, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	type answer struct {
		ok  bool
		err error
	}
	done := make(chan answer, 1)
	go func() {
		ok, err := k.fire(ctx, of, c)
		done <- answer{ok, err}
	}()
	select {
	case a := <-done:
		return a.ok, a.err
	case <-k.kick:
		stop(errKicked)
		if a := <-done; a.err == nil { // it was just done
			ring(k.kick)
			return a.ok, nil
		}
		return false, errKicked
	}
}

// catchUp returns what changed since the place, which the API server knows no more: from what is there. What was deleted in the
// meantime it cannot tell.
func (k *kindWatch) catchUp(ctx context.Context) error {
	k.options.Log.WarnContext(ctx, "changes are older than what the API server keeps: deletions among them start nothing", "kind", k.kind)
	options := metav1.ListOptions{Limit: listPage}
	for {
		list, err := k.resource().List(ctx, options)
		if err != nil {
			return err
		}
		for i := range list.Items {
			object := &list.Items[i]
			at, err := version(object)
			if err != nil {
				return err
			}
			kind := "Modified"
			if !object.GetCreationTimestamp().Time.Before(k.seen.Truncate(time.Second)) {
				kind = "Added"
			}
			if err := k.tell(ctx, kind, object, at); err != nil {
				return err
			}
		}
		if options.Continue = list.GetContinue(); options.Continue != "" {
			continue
		}
		at, err := version(list)
		k.place = max(k.place, at)
		return err
	}
}
