// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"io"
	"maps"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

// topicShape is a topic as a kafka component specifies it.
type topicShape struct{ kafka.Topic }

func (s *topicShape) declared() bool { return s.Partitions > 0 }

func (s *topicShape) same(other shape) bool {
	o, ok := other.(*topicShape)
	return ok && reflect.DeepEqual(s.Topic, o.Topic)
}

func readTopics(c component) ([]declaration, field.ErrorList) {
	var cfg struct {
		Topic             string            `json:"topic"`
		Topics            []string          `json:"topics"`
		Partitions        int32             `json:"partitions"`
		ReplicationFactor int16             `json:"replicationFactor"`
		Retention         string            `json:"retention"`
		TopicConfig       map[string]string `json:"topicConfig"`
	}
	if invalid := decode(c, &cfg); invalid != nil {
		return nil, invalid
	}
	var invalid field.ErrorList
	settings := maps.Clone(cfg.TopicConfig)
	if cfg.Retention != "" {
		retention, err := time.ParseDuration(cfg.Retention)
		if err != nil {
			invalid = append(invalid, validation.Errorf(c.path+".config.retention", "must be a duration, such as 168h"))
		}
		if settings == nil {
			settings = map[string]string{}
		}
		settings["retention.ms"] = strconv.FormatInt(retention.Milliseconds(), 10)
	}
	names := cfg.Topics
	if cfg.Topic != "" {
		names = append([]string{cfg.Topic}, names...)
	}
	var out []declaration
	for _, name := range names {
		if err := kafka.ValidTopic(name); err != nil {
			invalid = append(invalid, validation.Errorf(c.path+".config.topic", "%q: %v", name, err))
			continue
		}
		topic := kafka.Topic{Name: name, Partitions: cfg.Partitions, ReplicationFactor: cfg.ReplicationFactor, Config: settings}
		out = append(out, declaration{path: c.path + ".config", kind: kindTopic, name: name, shape: &topicShape{topic}})
	}
	return out, invalid
}

func openTopics(c *Controller, b backend.Binding) (external.Driver[declaration], io.Closer, error) {
	admin, err := c.Backends.Kafka(b)
	if err != nil {
		return external.Driver[declaration]{}, nil, err
	}
	return external.Driver[declaration]{
		Kind: kindTopic, Name: nameOf,
		Get: func(ctx context.Context, d declaration) (declaration, error) {
			have, err := admin.Topic(ctx, d.name)
			return declaration{name: d.name, shape: &topicShape{have}}, err
		},
		Create: func(ctx context.Context, d declaration) error {
			return admin.CreateTopic(ctx, d.shape.(*topicShape).Topic)
		},
		Update:    func(ctx context.Context, want, have declaration) error { return updateTopic(ctx, admin, want, have) },
		Usable:    topicUsable,
		MayCreate: topicMayCreate,
		Drop:      func(ctx context.Context, name string) error { return admin.DeleteTopic(ctx, name) },
	}, admin, nil
}

func topicMayCreate(d declaration) error {
	if d.shape.declared() {
		return nil
	}
	return &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: 30 * time.Second, Message: d.path +
		".topic: topic \"" + d.name + "\" does not exist; create it, or set " + d.path + ".partitions to have this Pipeline create it"}
}

// topicUsable accepts a topic that this Pipeline did not create if it has the specified partitions. Its settings are left to its owner.
func topicUsable(want, have declaration) error {
	w, h := want.shape.(*topicShape), have.shape.(*topicShape)
	if w.Partitions > 0 && w.Partitions != h.Partitions {
		return &reconcile.Terminal{Reason: common.ReasonNotOwned, After: time.Minute, Message: want.path + ".partitions: topic \"" + want.name + "\" exists with " +
			strconv.Itoa(int(h.Partitions)) + " partitions and was not created by this Pipeline; set partitions to that, or leave it out"}
	}
	return nil
}

func updateTopic(ctx context.Context, admin kafka.Admin, want, have declaration) error {
	w, h := want.shape.(*topicShape), have.shape.(*topicShape)
	if w.Partitions > 0 && w.Partitions < h.Partitions {
		return &reconcile.Terminal{Reason: dataflowv1alpha1.ReasonPartitionsDecreased, After: time.Minute, Message: want.path + ".partitions: topic \"" + want.name + "\" has " +
			strconv.Itoa(int(h.Partitions)) + " partitions and Kafka cannot take any away; set partitions to at least that"}
	}
	if w.ReplicationFactor > 0 && w.ReplicationFactor != h.ReplicationFactor {
		return &reconcile.Terminal{Reason: common.ReasonInvalidSpec, After: time.Minute, Message: want.path + ".replicationFactor: topic \"" + want.name + "\" has " +
			strconv.Itoa(int(h.ReplicationFactor)) + "; changing it is a reassignment of partitions, which Kafka's own tools do"}
	}
	differs := w.Partitions > h.Partitions
	for key, value := range w.Config {
		differs = differs || h.Config[key] != value
	}
	if !differs {
		return nil
	}
	return admin.UpdateTopic(ctx, w.Topic)
}
