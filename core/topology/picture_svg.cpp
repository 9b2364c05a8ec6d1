// SVG output (picture.h). Groups of leaves stand side by side, each above the racks it serves; spines and cores above.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "core/topology/picture.h"

namespace faultline::topology {
namespace {

// Sizes in px.
constexpr double kGpu = 9, kGpuGap = 2, kNodePad = 6, kNodeLabel = 23, kNodeGap = 6;
constexpr double kRackPad = 6, kRackLabel = 16, kRackGap = 10, kGroupPad = 12, kGroupGap = 18;
constexpr double kLeft = 76, kRight = 24, kSwitchHeight = 22, kLeafSlot = 50, kTierGap = 92, kTop = 74;
constexpr double kMostWidth = 1500;
constexpr std::uint32_t kGpuColumns = 4, kMostRacks = 16, kMostNodes = 8, kMostSpines = 32;

// Okabe and Ito's palette, which stays apart for colour-blind readers, without black; darker grey for the ninth rail
// on.
constexpr std::array<const char*, 8> kRail{"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                           "#56b4e9", "#d55e00", "#7b6fd0", "#8a8a00"};
constexpr std::array<const char*, 10> kInstance{"#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756",
                                                "#72b7b2", "#9d755d", "#eeca3b", "#7f6bb0", "#2f8f9d"};
constexpr const char* kGrey = "#c8ccd2";

struct Box {
  double x = 0, y = 0, w = 0, h = 0;
  double middle() const { return x + w / 2; }
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

class Drawing {
 public:
  Drawing(const Topology& t, const Placement& p) : t_(t), l_(t.layout), names_(t, p), placement_(p) {}

  std::string draw() {
    place_groups();
    place_spines();
    draw_links();
    for (const auto& [leaf, box] : leaves_) draw_switch(t_.leaf(leaf), box, rail_colour(leaf));
    for (const auto& [spine, box] : spines_) draw_switch(t_.spine(spine), box, spine_colour(spine));
    for (const auto& [core, box] : cores_) draw_switch(t_.graph.of_kind(Kind::core)[core], box, "#5b6270");
    tier_label("cores", cores_.empty() ? -1 : core_y_);
    tier_label("spines", spines_.empty() ? -1 : spine_y_);
    tier_label("leaves", leaf_y_);
    tier_label("racks", rack_y_ + kRackLabel);
    const double bottom = draw_feeds() + 14;
    const double height = draw_legend(bottom) + 18;
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} "
        "{1:.0f}\" "
        "font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{2}{3}{4}</svg>\n",
        width_, height, title(), behind_, front_);
  }

 private:
  // ---- placing
  // -------------------------------------------------------------------------------------------------------

  std::uint32_t group_of_node(std::uint32_t n) const { return l_.pod_of_leaf(l_.leaf_of({n}, 0, 0)); }

  /// Racks of every group (a rack that two groups share stands with the first), as many groups as the width allows.
  void place_groups() {
    const std::uint32_t per_rack = t_.spec.racks.nodes_per_rack;
    std::map<std::uint32_t, std::vector<std::uint32_t>> racks;
    for (std::uint32_t n = 0; n < l_.nodes; n += per_rack) racks[group_of_node(n)].push_back(n / per_rack);
    for (std::uint32_t n = 0; n < l_.nodes; ++n) racks[group_of_node(n)];
    const std::uint32_t columns = std::min(l_.gpus, kGpuColumns), rows = (l_.gpus + kGpuColumns - 1) / kGpuColumns;
    node_w_ = std::max(54.0, 2 * kNodePad + columns * (kGpu + kGpuGap) - kGpuGap);
    node_h_ = kNodeLabel + rows * (kGpu + kGpuGap) - kGpuGap + kNodePad;
    rack_w_ = node_w_ + 2 * kRackPad;
    const std::uint32_t stacked = std::min(per_rack, kMostNodes);
    rack_h_ = kRackLabel + stacked * (node_h_ + kNodeGap) + kRackPad + (per_rack > kMostNodes ? 12 : 0);
    core_y_ = kTop;
    spine_y_ = core_y_ + (l_.cores > 0 ? kTierGap + kSwitchHeight : 0);
    leaf_y_ = spine_y_ + (l_.spines > 0 ? kTierGap + kSwitchHeight : 0);
    rack_y_ = leaf_y_ + kSwitchHeight + 64;
    double x = kLeft;
    std::uint32_t drawn = 0;
    for (const auto& [group, list] : racks) {
      const auto shown = static_cast<std::uint32_t>(std::min<std::size_t>(list.size(), kMostRacks));
      const bool cut = list.size() > kMostRacks;
      const double racks_w = (shown + (cut ? 1 : 0)) * (rack_w_ + kRackGap) - kRackGap;
      const double inner = std::max(racks_w, l_.leaves_per_pod * kLeafSlot - 8);
      if (drawn > 0 && x + inner + 2 * kGroupPad > kMostWidth) break;
      place_group(group, list, shown, x, inner, racks_w);
      x += inner + 2 * kGroupPad + kGroupGap;
      ++drawn;
    }
    if (drawn < racks.size()) {
      rest_box(x, static_cast<std::uint32_t>(racks.size()) - drawn);
      x += 120 + kGroupGap;
    }
    width_ = std::max(x - kGroupGap + kRight, 640.0);
  }

  void place_group(std::uint32_t group, const std::vector<std::uint32_t>& racks, std::uint32_t shown, double x,
                   double inner, double racks_w) {
    emit(behind_, "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"10\" fill=\"#f5f6f8\"/>\n",
         x, leaf_y_ - kGroupPad, inner + 2 * kGroupPad, rack_y_ + rack_h_ + kGroupPad - (leaf_y_ - kGroupPad));
    const double slot = inner / l_.leaves_per_pod;
    for (std::uint32_t i = 0; i < l_.leaves_per_pod; ++i) {
      const double w = std::min(slot - 6, 84.0);
      leaves_[group * l_.leaves_per_pod + i] = {x + kGroupPad + i * slot + (slot - w) / 2, leaf_y_, w, kSwitchHeight};
    }
    double rx = x + kGroupPad + (inner - racks_w) / 2;
    for (std::uint32_t i = 0; i < racks.size(); ++i) {
      const bool last = i + 1 == racks.size();
      if (i + 1 >= shown && !last) {
        if (i + 1 == shown) {
          text(rx + rack_w_ / 2, rack_y_ + rack_h_ / 2, 11, "#5b6270", fmt::format("… {} racks", racks.size() - shown),
               "middle");
          rx += rack_w_ + kRackGap;
        }
        continue;
      }
      racks_[racks[i]] = {rx, rack_y_, rack_w_, rack_h_};
      draw_rack(racks[i], racks_[racks[i]]);
      rx += rack_w_ + kRackGap;
    }
  }

  void rest_box(double x, std::uint32_t groups) {
    const double h = rack_y_ + rack_h_ + kGroupPad - (leaf_y_ - kGroupPad);
    emit(behind_,
         "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"120\" height=\"{:.1f}\" rx=\"10\" fill=\"none\" stroke=\"#c8ccd2\" "
         "stroke-dasharray=\"4 4\"/>\n",
         x, leaf_y_ - kGroupPad, h);
    const double y = leaf_y_ - kGroupPad + h / 2;
    std::uint32_t shown = 0;
    for (std::uint32_t n = 0; n < l_.nodes; ++n) shown += leaves_.count(l_.leaf_of({n}, 0, 0)) ? 1 : 0;
    text(x + 60, y - 8, 13, "#333a45", fmt::format("+ {} group{}", groups, groups == 1 ? "" : "s"), "middle");
    text(x + 60, y + 10, 11, "#5b6270", fmt::format("{} nodes", l_.nodes - shown), "middle");
    text(x + 60, y + 26, 11, "#5b6270", fmt::format("{} GPUs", (l_.nodes - shown) * l_.gpus), "middle");
  }

  void place_row(std::map<std::uint32_t, Box>& row, const std::vector<std::uint32_t>& ids, double x0, double x1,
                 double y) const {
    const double slot = (x1 - x0) / static_cast<double>(ids.size()), w = std::min(slot - 5, 84.0);
    for (std::size_t i = 0; i < ids.size(); ++i)
      row[ids[i]] = {x0 + static_cast<double>(i) * slot + (slot - w) / 2, y, w, kSwitchHeight};
  }

  void place_spines() {
    if (l_.spines == 0) return;
    const double x0 = kLeft, x1 = width_ - kRight;
    std::vector<std::uint32_t> ids;
    if (l_.kind == FabricKind::fat_tree) {
      for (std::uint32_t pod = 0; pod < l_.pods; ++pod) {
        const auto first = leaves_.find(pod * l_.leaves_per_pod);
        if (first == leaves_.end()) continue;
        const Box last = leaves_[(pod + 1) * l_.leaves_per_pod - 1];
        ids.clear();
        for (std::uint32_t s = 0; s < l_.spines_per_plane; ++s) ids.push_back(pod * l_.spines_per_plane + s);
        place_row(spines_, ids, first->second.x - 3, last.x + last.w + 3, spine_y_);
      }
      ids.clear();
      for (std::uint32_t c = 0; c < std::min(l_.cores, kMostSpines); ++c)
        ids.push_back(c * std::max(1U, l_.cores / kMostSpines));
      if (!ids.empty()) place_row(cores_, ids, x0, x1, core_y_);
      if (l_.cores > kMostSpines)
        text(x1, core_y_ - 8, 11, "#5b6270", fmt::format("{} of {} cores drawn", kMostSpines, l_.cores), "end");
      return;
    }
    const std::uint32_t each = std::min(l_.spines_per_plane, std::max(1U, kMostSpines / l_.planes));
    for (std::uint32_t plane = 0; plane < l_.planes; ++plane) {
      for (std::uint32_t s = 0; s < each; ++s) ids.push_back(plane * l_.spines_per_plane + s);
    }
    place_row(spines_, ids, x0, x1, spine_y_);
    if (each < l_.spines_per_plane) {
      text(x1, spine_y_ - 8, 11, "#5b6270", fmt::format("{} of {} spines drawn", ids.size(), l_.spines), "end");
    }
  }

  // ---- drawing
  // -------------------------------------------------------------------------------------------------------

  void draw_links() {
    for (const auto& [leaf, box] : leaves_) {
      const char* colour = rail_colour(leaf);
      for (const auto& [rack, at] : racks_) {
        if (!serves(leaf, rack)) continue;
        const double x2 = at.x + at.w * (0.2 + 0.6 * (leaf % l_.leaves_per_pod + 0.5) / l_.leaves_per_pod);
        curve(box.middle(), box.y + box.h, x2, at.y, colour, 0.55, 1.1);
      }
      const std::uint32_t first =
          (l_.kind == FabricKind::fat_tree ? l_.pod_of_leaf(leaf) : l_.plane_of_leaf(leaf)) * l_.spines_per_plane;
      for (auto s = spines_.lower_bound(first); s != spines_.end() && s->first < first + l_.spines_per_plane; ++s) {
        curve(s->second.middle(), s->second.y + s->second.h, box.middle(), box.y, colour,
              spines_.size() > 12 ? 0.16 : 0.35, 0.9);
      }
    }
    for (const auto& [spine, box] : spines_) {
      if (l_.cores == 0) break;
      const std::uint32_t first = spine % l_.spines_per_plane * l_.cores_per_spine;
      for (auto c = cores_.lower_bound(first); c != cores_.end() && c->first < first + l_.cores_per_spine; ++c) {
        curve(c->second.middle(), c->second.y + c->second.h, box.middle(), box.y, "#5b6270", 0.16, 0.9);
      }
    }
  }

  bool serves(std::uint32_t leaf, std::uint32_t rack) const {
    const std::uint32_t first = rack * t_.spec.racks.nodes_per_rack,
                        end = std::min(l_.nodes, first + t_.spec.racks.nodes_per_rack);
    for (std::uint32_t n = first; n < end; ++n) {
      for (std::uint32_t nic = 0; nic < l_.nics; ++nic) {
        for (std::uint32_t port = 0; port < l_.ports; ++port) {
          if (l_.leaf_of({n}, nic, port) == leaf) return true;
        }
      }
    }
    return false;
  }

  void draw_rack(std::uint32_t rack, const Box& box) {
    const std::string name = t_.graph.name(t_.graph.of_kind(Kind::rack)[rack]);
    emit(front_,
         "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"6\" fill=\"#ffffff\" "
         "stroke=\"#b6bcc6\"><title>{}</title></rect>\n",
         box.x, box.y, box.w, box.h, name);
    text(box.middle(), box.y + 12, 9.5, "#5b6270", name, "middle");
    const std::uint32_t first = rack * t_.spec.racks.nodes_per_rack,
                        end = std::min(l_.nodes, first + t_.spec.racks.nodes_per_rack);
    for (std::uint32_t n = first; n < end && n < first + kMostNodes; ++n)
      draw_node(n, box.x + kRackPad, box.y + kRackLabel + (n - first) * (node_h_ + kNodeGap));
    if (end > first + kMostNodes) {
      text(box.middle(), box.y + box.h - 5, 9.5, "#5b6270", fmt::format("+ {} nodes", end - first - kMostNodes),
           "middle");
    }
  }

  void draw_node(std::uint32_t n, double x, double y) {
    const NodeUse& use = placement_.use[n];
    const bool idle = use.role == NodeRole::spare || use.role == NodeRole::unused;
    const char* colour = idle ? kGrey : kInstance[use.instance % kInstance.size()];
    const std::string by_use = names_.by_use(t_.node({n}));
    emit(front_,
         "<g><title>{} · {}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"4\" "
         "fill=\"{}\" fill-opacity=\"0.10\" stroke=\"{}\" stroke-width=\"1.2\"/>\n",
         t_.graph.name(t_.node({n})), by_use, x, y, node_w_, node_h_, colour, colour);
    text(x + node_w_ / 2, y + 9.5, 8, "#333a45", t_.graph.name(t_.node({n})), "middle");
    text(x + node_w_ / 2, y + 18.5, 8, "#5b6270", use.role == NodeRole::unused ? "unused" : by_use, "middle");
    const std::uint32_t columns = std::min(l_.gpus, kGpuColumns);
    const double grid_w = columns * (kGpu + kGpuGap) - kGpuGap, gx = x + (node_w_ - grid_w) / 2;
    for (std::uint32_t g = 0; g < l_.gpus; ++g) {
      const double px = gx + (g % kGpuColumns) * (kGpu + kGpuGap),
                   py = y + kNodeLabel + (g / kGpuColumns) * (kGpu + kGpuGap);
      // Prefill is filled, decode is outlined with a light fill, so that the two sides differ without colour.
      const bool hollow = use.role == NodeRole::decode;
      emit(front_,
           "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" rx=\"1.5\" fill=\"{}\" fill-opacity=\"{}\" "
           "stroke=\"{}\"/>\n",
           px + 0.5, py + 0.5, kGpu - 1, kGpu - 1, colour, hollow ? "0.25" : "1", colour);
    }
    front_ += "</g>\n";
  }

  void draw_switch(ComponentId id, const Box& box, const char* colour) {
    const std::string& name = t_.graph.name(id);
    emit(front_,
         "<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"5\" "
         "fill=\"#ffffff\" stroke=\"{}\" stroke-width=\"1.6\"/>",
         name, box.x, box.y, box.w, box.h, colour);
    const std::string label = box.w >= 42 ? name : name.substr(name.find('-') + 1);
    text(box.middle(), box.y + 14.5, box.w >= 52 ? 10 : box.w >= 28 ? 9 : 7.5, "#333a45", label, "middle");
    front_ += "</g>\n";
  }

  double draw_feeds() {
    std::map<ComponentId, Box> feeds;
    for (const auto& [rack, box] : racks_) {
      const ComponentId feed = t_.graph[t_.graph.of_kind(Kind::rack)[rack]].parent;
      const auto [at, fresh] = feeds.emplace(feed, box);
      if (!fresh) at->second.w = box.x + box.w - at->second.x;
    }
    const double y = rack_y_ + rack_h_ + kGroupPad + 10;
    for (const auto& [feed, box] : feeds) {
      emit(front_, "<path d=\"M{:.1f},{:.1f} v5 H{:.1f} v-5\" fill=\"none\" stroke=\"#8a919c\"/>\n", box.x + 4, y,
           box.x + box.w - 4);
      text(box.middle(), y + 17, 9.5, "#5b6270", t_.graph.name(feed), "middle");
    }
    return y + 24;
  }

  double draw_legend(double y) {
    double x = kLeft;
    const auto key = [&](const char* colour, const char* opacity, const std::string& label) {
      emit(front_,
           "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"9\" height=\"9\" rx=\"1.5\" fill=\"{}\" fill-opacity=\"{}\" "
           "stroke=\"{}\"/>\n",
           x, y, colour, opacity, colour);
      text(x + 14, y + 8.5, 10.5, "#333a45", label, "start");
      x += 14 + 6.2 * static_cast<double>(label.size()) + 14;
    };
    key(kInstance[0], "1", "GPU of a prefill or mixed node");
    key(kInstance[0], "0.25", "GPU of a decode node");
    key(kGrey, "1", "spare or unused");
    text(x, y + 8.5, 10.5, "#5b6270",
         l_.kind == FabricKind::rail_optimised ? "a colour an instance; lines and leaves: a colour a rail"
                                               : "a colour an instance",
         "start");
    return y + 12;
  }

  std::string title() {
    std::string out;
    std::swap(out, front_);
    text(kLeft, 30, 18, "#20262f", t_.spec.name, "start", true);
    text(kLeft, 48, 11.5, "#5b6270",
         fmt::format("{} nodes x {} = {} GPUs · {} · {}, {} leaves, {} spines{} · {} instances, {} spare nodes",
                     l_.nodes, l_.gpus, l_.gpu_count(), t_.spec.node.nic.name,
                     enum_names(&l_.kind)[static_cast<std::size_t>(l_.kind)], l_.leaves, l_.spines,
                     l_.cores > 0 ? fmt::format(", {} cores", l_.cores) : "", placement_.instances.size(),
                     placement_.spare_nodes.size()),
         "start");
    std::swap(out, front_);
    return out;
  }

  const char* rail_colour(std::uint32_t leaf) const {
    if (l_.kind == FabricKind::rail_optimised) return kRail[leaf % l_.leaves_per_pod / l_.ports % kRail.size()];
    if (l_.kind == FabricKind::dual_tor) return kRail[leaf % 2];
    return kRail[0];
  }
  const char* spine_colour(std::uint32_t spine) const {
    return l_.rails_in_planes ? kRail[spine / l_.spines_per_plane % kRail.size()] : "#5b6270";
  }

  void tier_label(const char* name, double y) {
    if (y >= 0) text(kLeft - 14, y + 15, 12, "#5b6270", name, "end", true);
  }
  void curve(double x1, double y1, double x2, double y2, const char* colour, double opacity, double width) {
    const double bend = (y2 - y1) * 0.45;
    emit(behind_,
         "<path d=\"M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}\" fill=\"none\" stroke=\"{}\" "
         "stroke-opacity=\"{}\" stroke-width=\"{}\"/>\n",
         x1, y1, x1, y1 + bend, x2, y2 - bend, x2, y2, colour, opacity, width);
  }
  void text(double x, double y, double size, const char* colour, const std::string& what, const char* anchor,
            bool bold = false) {
    emit(front_, "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
         size, colour, anchor, bold ? " font-weight=\"600\"" : "", escaped(what));
  }
  template <class... Args>
  static void emit(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
  }

  const Topology& t_;
  const Layout& l_;
  Names names_;
  const Placement& placement_;
  double node_w_ = 0, node_h_ = 0, rack_w_ = 0, rack_h_ = 0, width_ = 0;
  double core_y_ = 0, spine_y_ = 0, leaf_y_ = 0, rack_y_ = 0;
  std::map<std::uint32_t, Box> leaves_, spines_, cores_, racks_;
  std::string behind_, front_;
};

}  // namespace

std::string to_svg(const Topology& topology, const Placement& placement) { return Drawing(topology, placement).draw(); }

}  // namespace faultline::topology
