//! Message texts as people write them at work, English and Chinese, from a seed: the same seed gives the same text, so a
//! stored message can be checked without keeping it. Pure.
//!
//! Must never be constant or random bytes: either would make the disk figures meaningless. Common words come often and
//! rare ones seldom, numbers and names are mixed in, so it compresses as real chat does.

/// English, the frequent first.
#[rustfmt::skip] // packed: one word per line would be 250 lines
const ENGLISH: &[&str] = &[
    "the", "to", "I", "is", "and", "we", "it", "that", "on", "you", "a", "for", "in", "of", "this", "can", "have",
    "not", "be", "with", "at", "ok", "will", "just", "so", "do", "but", "if", "was", "are", "please", "thanks",
    "today", "now", "from", "there", "what", "when", "still", "check", "meeting", "update", "server", "think",
    "need", "should", "done", "tomorrow", "see", "time", "work", "test", "after", "before", "report", "customer",
    "build", "deploy", "release", "bug", "fix", "review", "merge", "branch", "ticket", "schedule", "invoice",
    "contract", "delivery", "morning", "afternoon", "Monday", "Friday", "week", "quarter", "budget", "team",
    "office", "call", "later", "soon", "maybe", "probably", "definitely", "question", "answer", "looks", "good",
    "great", "sure", "sorry", "late", "lunch", "coffee", "document", "attached", "version", "latest", "database",
    "network", "switch", "printer", "password", "account", "login", "screen", "production", "staging", "rollback",
    "incident", "alert", "dashboard", "metrics", "latency", "backup", "restore", "warehouse", "shipment",
    "supplier", "quality", "inspection", "assembly", "machine", "maintenance", "sensor", "temperature", "pressure",
    "calibration", "drawing", "specification", "requirement", "approval", "signature", "procurement", "colleague",
    "department", "manager", "director", "training", "holiday", "overtime", "night", "shift", "\"as agreed\"",
    "\"urgent\"", "Zhang", "Wang", "Li", "Chen", "Maria", "Thomas", "Anna", "Peter",
];

/// Chinese, the frequent first.
#[rustfmt::skip] // packed: one word per line would be 250 lines
const CHINESE: &[&str] = &[
    "的", "我", "了", "是", "好的", "我们", "你", "在", "这个", "有", "不", "就", "收到", "可以", "今天", "一下",
    "明天", "没有", "看", "会", "请", "谢谢", "现在", "还", "要", "那个", "问题", "时间", "开会", "什么", "已经",
    "下午", "上午", "确认", "客户", "项目", "测试", "服务器", "系统", "更新", "版本", "文件", "报告", "数据",
    "部门", "领导", "同事", "需要", "处理", "完成", "准备", "安排", "计划", "进度", "会议室", "电话", "邮件",
    "合同", "发票", "采购", "供应商", "仓库", "发货", "质量", "检查", "生产", "设备", "维修", "温度", "压力",
    "图纸", "审批", "签字", "财务", "预算", "季度", "周一", "周五", "加班", "请假", "出差", "培训", "午饭", "咖啡",
    "网络", "密码", "账号", "登录", "备份", "恢复", "升级", "回滚", "告警", "延迟", "上线", "分支", "合并", "代码",
    "需求", "方案", "讨论", "建议", "辛苦了", "没问题", "稍等", "马上", "尽快", "张工", "李经理", "王总", "小陈",
];

/// A small generator of numbers (splitmix64): fast, and good enough to pick words.
#[derive(Clone, Debug)]
pub struct Picker(u64);

impl Picker {
    /// From any seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: usize) -> usize {
        (((self.next() >> 32) * end as u64) >> 32) as usize
    }

    /// A word of the list; the square of a uniform number, so the first ones come often.
    fn word(&mut self, words: &'static [&'static str]) -> &'static str {
        let uniform = self.next() >> 40;
        let skewed = (uniform * uniform) >> 24;
        words[(skewed as usize * words.len()) >> 24]
    }
}

/// Appends a text of exactly `bytes` bytes of UTF-8 to `out`: the text of this `seed`.
pub fn write_text(out: &mut String, seed: u64, bytes: usize) {
    let end = out.len() + bytes;
    let mut picker = Picker::new(seed);
    let mut chinese = picker.below(2) == 0;
    let mut words_left = 4 + picker.below(10);
    while out.len() < end {
        let before = out.len();
        if words_left == 0 {
            out.push_str(if chinese { "。" } else { ". " });
            chinese = picker.below(2) == 0;
            words_left = 4 + picker.below(10);
        } else {
            words_left -= 1;
            write_word(out, &mut picker, chinese);
        }
        if out.len() > end {
            out.truncate(before);
            out.extend(std::iter::repeat_n('.', end - before));
        }
    }
}

fn write_word(out: &mut String, picker: &mut Picker, chinese: bool) {
    use std::fmt::Write as _;
    if picker.below(16) == 0 {
        // Writing to a string cannot fail.
        let _ = write!(out, "{} ", picker.below(100_000));
    } else if chinese {
        out.push_str(picker.word(CHINESE));
        if picker.below(6) == 0 {
            out.push('，');
        }
    } else {
        out.push_str(picker.word(ENGLISH));
        out.push(' ');
    }
}

/// Appends `text` as the inside of a JSON string. Texts from here have no control characters.
pub fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_length_asked_for_and_repeat_by_seed() {
        let mut all = std::collections::HashSet::new();
        for seed in 0..500 {
            for bytes in [0, 1, 2, 17, 150, 200, 1_000] {
                let (mut text, mut again) = ("x".to_owned(), "x".to_owned());
                write_text(&mut text, seed, bytes);
                write_text(&mut again, seed, bytes);
                assert_eq!(text.len(), bytes + 1);
                assert_eq!(text, again);
                all.insert(text);
            }
        }
        assert!(all.len() > 3 * 500, "texts differ by seed");
    }

    #[test]
    fn texts_compress_as_chat_does() {
        let mut text = String::new();
        for seed in 0..300 {
            write_text(&mut text, seed, 200);
        }
        let ratio = text.len() as f64 / zstd::bulk::compress(text.as_bytes(), 3).unwrap().len() as f64;
        assert!((1.8..5.0).contains(&ratio), "a ratio of {ratio}");
    }

    #[test]
    fn escaped_texts_are_what_a_json_parser_reads() {
        let mut texts = vec!["\"\\\"".to_owned(), String::new()];
        for seed in 0..200 {
            let mut text = String::new();
            write_text(&mut text, seed, 300);
            texts.push(text);
        }
        assert!(texts[2..].iter().any(|text| text.contains('"')), "quotes are exercised");
        for text in texts {
            let mut json = vec![b'"'];
            write_escaped(&mut json, &text);
            json.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }
}
